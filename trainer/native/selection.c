/* Variable selection over real inputs: their shares, their own networks, and the sum of these by shares.
 * What is affine in an input is collapsed, as in trainer/network/selection.py.
 */
#include "gates.h"
#define MOST_VARIABLES 32

/* The network that weighs the variables: numbers (V) to hidden (C), to V. `skip` NULL has no norm. */
typedef struct {
    const float *into;    /* (C, V) */
    const float *context; /* (cycle, C), joins row n at n % cycle */
    const float *second, *second_bias;
    gate g;
    const float *skip, *skip_bias;        /* (V, V), (V) */
    const float *skip_scale, *skip_shift; /* (V), of the skip's norm; NULL without */
} weigher;

typedef struct {
    float *into, *context, *second, *second_bias; /* context is added to */
    gate_gradient g;
    float *skip, *skip_bias, *skip_scale, *skip_shift;
} weigher_gradient;

typedef struct {
    /* x (V, rows); the variables' networks (V, ...) with `inner` features inside, `out` outside; `weigh`
     * features inside the weigher. threshold and seed: dropout. */
    int64_t rows, cycle, variables, inner, out, weigh, threshold, seed, begin, end;
    const float *x;
    weigher w;                 /* unused for one variable */
    const float *hidden;       /* (V, 2, inner), of x and 1 */
    const float *skip;         /* (V, 3, out), of the features; (V, 2, out) without a curve */
    const float *curve;        /* (3, V): shift, variance, least; or NULL */
    const float *second, *second_bias;
    gate g;
    float *y, *shares; /* (rows, out), (V, rows) */
    const float *dy;
    weigher_gradient dw;
    float *d_hidden, *d_skip, *d_curve, *d_second, *d_second_bias;
    gate_gradient dg;
} selection;

typedef struct {
    tile active[MOST], slope[MOST], inner[MOST], both[2 * MOST], unit[MOST], inverse;
    tile from_least, strength; /* features: their product, the second alone, 1 */
} own_state;

typedef struct {
    tile active[MOST], slope[MOST], inner[MOST], both[2 * MOST_VARIABLES], unit[MOST_VARIABLES], inverse;
    tile skip_unit[MOST_VARIABLES], skip_inverse;
} weigher_state;

typedef struct {
    gate_sums gate;
    float *into, *second, *skip;
    vf second_bias[MOST], skip_bias[MOST_VARIABLES], skip_scale[MOST_VARIABLES], skip_shift[MOST_VARIABLES];
} weigher_sums;

typedef struct {
    gate_sums gate;
    float *second;
    vf second_bias[MOST], hidden[2][MOST], skip[3][MOST], curve[3];
} own_sums;

INLINE gate gate_at(gate g, int index, int out, int inner) {
    gate found = {g.weight + (long)index * 2 * out * inner, g.bias + (long)index * 2 * out,
                  g.scale + (long)index * out, g.shift + (long)index * out};
    return found;
}

INLINE void drop_all(tile *x, int features, const selection *a, int block, int network) {
    const dropout d = dropout_of(a->threshold, a->seed);
    const uint32_t first = ((uint32_t)block * (a->variables + 1) + network) * MOST;
    for (int f = 0; a->threshold && f < features; f++) drop(x[f], d, first + f);
}

INLINE void weigh(const selection *a, int block, int rows, const tile *x, weigher_state *s, tile *shares) {
    const int n = a->variables, c = a->weigh;
    const weigher *w = &a->w;
    load(s->active, c, w->context, block * R, rows, a->cycle);
    product(s->active, c, n, w->into, n, 1, x, 0, 1);
    elu(s->active, s->slope, c);
    linear(s->inner, c, c, w->second, s->active, w->second_bias);
    drop_all(s->inner, c, a, block, n);
    linear(s->skip_unit, n, n, w->skip, x, w->skip_bias);
    if (w->skip_scale) {
        normalize(s->skip_unit, s->skip_inverse, n);
        for (int v = 0; v < n; v++)
            for (int u = 0; u < 2; u++)
                s->unit[v][u] = s->skip_unit[v][u] * w->skip_scale[v] + w->skip_shift[v];
    } else
        memcpy(s->unit, s->skip_unit, sizeof(tile) * n);
    open_gate(w->g, n, c, s->inner, s->both, s->unit, s->inverse);
    for (int u = 0; u < 2; u++) {
        vf sum = {0}, top = s->unit[0][u] * w->g.scale[0] + w->g.shift[0];
        for (int v = 0; v < n; v++) {
            shares[v][u] = s->unit[v][u] * w->g.scale[v] + w->g.shift[v];
            top = choose(shares[v][u] > top, shares[v][u], top);
        }
        for (int v = 0; v < n; v++) sum += shares[v][u] = vexp(shares[v][u] - top);
        for (int v = 0; v < n; v++) shares[v][u] /= sum;
    }
}

/* d by the shares; overwritten. */
INLINE void weigh_back(const selection *a, int block, int rows, const tile *x, weigher_state *s,
                       const tile *shares, tile *d, weigher_sums *sums) {
    const int n = a->variables, c = a->weigh;
    const weigher *w = &a->w;
    tile d_inner[MOST];
    float turned[R * MOST];
    for (int u = 0; u < 2; u++) {
        vf along = {0};
        for (int v = 0; v < n; v++) along += d[v][u] * shares[v][u];
        for (int v = 0; v < n; v++) d[v][u] = shares[v][u] * (d[v][u] - along);
    }
    norm_gradient(w->g, &sums->gate, n, s->unit, s->inverse, d);
    gate_gradient_of(w->g, &sums->gate, n, c, s->inner, s->both, d, d_inner);
    if (w->skip_scale) {
        for (int v = 0; v < n; v++) {
            sums->skip_scale[v] += d[v][0] * s->skip_unit[v][0] + d[v][1] * s->skip_unit[v][1];
            sums->skip_shift[v] += d[v][0] + d[v][1];
            for (int u = 0; u < 2; u++) d[v][u] *= w->skip_scale[v];
        }
        normalize_back(d, s->skip_unit, s->skip_inverse, n);
    }
    float numbers[R * MOST_VARIABLES];
    to_rows(numbers, padded(n), x, n);
    outer(sums->skip, n, padded(n), d, numbers);
    tally(sums->skip_bias, n, d);
    drop_all(d_inner, c, a, block, n);
    to_rows(turned, padded(c), s->active, c);
    outer(sums->second, c, padded(c), d_inner, turned);
    tally(sums->second_bias, c, d_inner);
    tile *d_active = s->inner;
    linear_back(d_active, c, c, w->second, d_inner, 0);
    for (int f = 0; f < c; f++)
        for (int u = 0; u < 2; u++) d_active[f][u] *= s->slope[f][u];
    add_rows(a->dw.context, c, block * R, rows, a->cycle, d_active);
    outer(sums->into, c, padded(n), d_active, numbers);
}

/* One variable's own network up to the norm's unit. */
INLINE void own_forward(const selection *a, int block, int v, const tile x, own_state *s) {
    const int c = a->inner, o = a->out;
    const float *hidden = a->hidden + (long)v * 2 * c;
    for (int f = 0; f < c; f++)
        for (int u = 0; u < 2; u++) s->active[f][u] = x[u] * hidden[f] + hidden[c + f];
    elu(s->active, s->slope, c);
    linear(s->inner, c, c, a->second + (long)v * c * c, s->active, a->second_bias + (long)v * c);
    drop_all(s->inner, c, a, block, v);
    const float *skip = a->skip + (long)v * (a->curve ? 3 : 2) * o;
    for (int u = 0; u < 2; u++) {
        if (!a->curve) {
            for (int f = 0; f < o; f++) s->unit[f][u] = x[u] * skip[f] + skip[o + f];
            continue;
        }
        const float shift = a->curve[v], variance = a->curve[a->variables + v];
        s->from_least[u] = x[u] + shift;
        vf square = s->from_least[u] * s->from_least[u] * variance + a->curve[2 * a->variables + v];
        s->strength[u] = inverse_root(square);
        vf whole = s->from_least[u] * s->strength[u];
        for (int f = 0; f < o; f++)
            s->unit[f][u] = whole * skip[f] + s->strength[u] * skip[o + f] + skip[2 * o + f];
    }
    open_gate(gate_at(a->g, v, o, c), o, c, s->inner, s->both, s->unit, s->inverse);
}

/* d by the sum that was normalized. */
INLINE void skip_back(const selection *a, int v, const tile x, const own_state *s, const tile *d,
                      own_sums *sums) {
    const int o = a->out;
    const float *skip = a->skip + (long)v * (a->curve ? 3 : 2) * o;
    for (int u = 0; u < 2; u++) {
        vf by_whole = {0}, by_strength = {0};
        vf whole = a->curve ? s->from_least[u] * s->strength[u] : x[u];
        for (int f = 0; f < o; f++) {
            sums->skip[0][f] += d[f][u] * whole;
            sums->skip[1][f] += a->curve ? d[f][u] * s->strength[u] : d[f][u];
            sums->skip[2][f] += d[f][u];
            by_whole += d[f][u] * skip[f];
            by_strength += d[f][u] * skip[o + f];
        }
        if (!a->curve) continue;
        const vf strength = s->strength[u], from_least = s->from_least[u];
        vf by_square = (by_whole * from_least + by_strength) * -0.5f * strength * strength * strength;
        const float variance = a->curve[a->variables + v];
        sums->curve[0] += by_whole * strength + by_square * 2.0f * variance * from_least;
        sums->curve[1] += by_square * from_least * from_least;
        sums->curve[2] += by_square;
    }
}

/* d_sum (out) by y; writes the derivative by this variable's share. */
INLINE void own_back(const selection *a, int block, int v, const tile x, own_state *s, const tile share,
                     const tile *d_sum, own_sums *sums, tile d_share) {
    const int c = a->inner, o = a->out;
    const gate g = gate_at(a->g, v, o, c);
    tile d[MOST], d_inner[MOST];
    float turned[R * MOST];
    memset(d_share, 0, sizeof(tile));
    for (int f = 0; f < o; f++)
        for (int u = 0; u < 2; u++) {
            d_share[u] += d_sum[f][u] * (s->unit[f][u] * g.scale[f] + g.shift[f]);
            d[f][u] = d_sum[f][u] * share[u];
        }
    norm_gradient(g, &sums->gate, o, s->unit, s->inverse, d);
    skip_back(a, v, x, s, d, sums);
    gate_gradient_of(g, &sums->gate, o, c, s->inner, s->both, d, d_inner);
    drop_all(d_inner, c, a, block, v);
    to_rows(turned, padded(c), s->active, c);
    outer(sums->second, c, padded(c), d_inner, turned);
    tally(sums->second_bias, c, d_inner);
    tile *d_active = s->inner;
    linear_back(d_active, c, c, a->second + (long)v * c * c, d_inner, 0);
    for (int f = 0; f < c; f++)
        for (int u = 0; u < 2; u++) {
            vf slope = d_active[f][u] * s->slope[f][u];
            sums->hidden[0][f] += slope * x[u];
            sums->hidden[1][f] += slope;
        }
}

INLINE void load_numbers(const selection *a, int from, int rows, tile *x) {
    for (int v = 0; v < a->variables; v++) load_line(x[v], a->x + (long)v * a->rows, from, rows);
}

INLINE void shares_of(const selection *a, int block, int rows, const tile *x, weigher_state *s, tile *shares) {
    if (a->variables > 1)
        weigh(a, block, rows, x, s, shares);
    else
        for (int u = 0; u < 2; u++) shares[0][u] = (vf){0} + 1.0f;
}

int selection_forward(const selection *a) {
    const int o = a->out;
    tile x[MOST_VARIABLES], shares[MOST_VARIABLES], y[MOST];
    weigher_state weighing;
    own_state s;
    for (int block = a->begin; block < a->end; block++) {
        const int from = block * R, rows = a->rows - from < R ? a->rows - from : R;
        load_numbers(a, from, rows, x);
        shares_of(a, block, rows, x, &weighing, shares);
        memset(y, 0, sizeof(tile) * o);
        for (int v = 0; v < a->variables; v++) {
            own_forward(a, block, v, x[v], &s);
            const float *scale = a->g.scale + (long)v * o, *shift = a->g.shift + (long)v * o;
            for (int f = 0; f < o; f++)
                for (int u = 0; u < 2; u++) y[f][u] += shares[v][u] * (s.unit[f][u] * scale[f] + shift[f]);
            memcpy(a->shares + (long)v * a->rows + from, shares[v], sizeof(float) * rows);
        }
        store(a->y, o, from, rows, y);
    }
    return DONE;
}

static void write_own(const selection *a, int v, own_sums *sums) {
    const int c = a->inner, o = a->out, n = a->variables, features = a->curve ? 3 : 2;
    const gate_gradient to = {a->dg.weight + (long)v * 2 * o * c, a->dg.bias + (long)v * 2 * o,
                              a->dg.scale + (long)v * o, a->dg.shift + (long)v * o};
    write_gate(to, &sums->gate, o, c);
    write_weight(a->d_second + (long)v * c * c, c, c, sums->second, padded(c));
    write_sums(a->d_second_bias + (long)v * c, sums->second_bias, c);
    for (int i = 0; i < 2; i++) write_sums(a->d_hidden + ((long)v * 2 + i) * c, sums->hidden[i], c);
    for (int i = 0; i < features; i++)
        write_sums(a->d_skip + ((long)v * features + i) * o, sums->skip[i], o);
    for (int i = 0; a->curve && i < 3; i++) a->d_curve[i * n + v] += total(sums->curve[i]);
}

static void write_weigher(const selection *a, weigher_sums *sums) {
    const int n = a->variables, c = a->weigh;
    const weigher_gradient *to = &a->dw;
    write_gate(to->g, &sums->gate, n, c);
    write_weight(to->into, c, n, sums->into, padded(n));
    write_weight(to->second, c, c, sums->second, padded(c));
    write_weight(to->skip, n, n, sums->skip, padded(n));
    write_sums(to->second_bias, sums->second_bias, c);
    write_sums(to->skip_bias, sums->skip_bias, n);
    if (a->w.skip_scale) {
        write_sums(to->skip_scale, sums->skip_scale, n);
        write_sums(to->skip_shift, sums->skip_shift, n);
    }
}

int selection_backward(const selection *a) {
    const int c = a->inner, o = a->out, n = a->variables, wide = a->weigh;
    tile x[MOST_VARIABLES], shares[MOST_VARIABLES], d_shares[MOST_VARIABLES], d[MOST];
    weigher_state weighing;
    own_state s;
    const size_t gate_size = (size_t)2 * o * padded(c), own_size = gate_size + (size_t)c * padded(c);
    const size_t weigher_size = (size_t)2 * n * padded(wide) + wide * padded(wide) + (wide + n) * padded(n);
    const size_t sums_size = sizeof(own_sums) * n + sizeof(weigher_sums);
    own_sums *own = zeros(sums_size + sizeof(float) * (own_size * n + weigher_size));
    if (!own) return NO_MEMORY;
    weigher_sums *weigher = (weigher_sums *)(own + n);
    float *scratch = (float *)(weigher + 1);
    for (int v = 0; v < n; v++) {
        own[v].gate.weight = scratch + own_size * v;
        own[v].second = own[v].gate.weight + gate_size;
    }
    weigher->gate.weight = scratch + own_size * n;
    weigher->second = weigher->gate.weight + 2 * n * padded(wide);
    weigher->into = weigher->second + wide * padded(wide);
    weigher->skip = weigher->into + wide * padded(n);
    for (int block = a->begin; block < a->end; block++) {
        const int from = block * R, rows = a->rows - from < R ? a->rows - from : R;
        load_numbers(a, from, rows, x);
        shares_of(a, block, rows, x, &weighing, shares);
        load(d, o, a->dy, from, rows, a->rows);
        for (int v = 0; v < n; v++) {
            own_forward(a, block, v, x[v], &s);
            own_back(a, block, v, x[v], &s, shares[v], d, &own[v], d_shares[v]);
        }
        if (n > 1) weigh_back(a, block, rows, x, &weighing, shares, d_shares, weigher);
    }
    for (int v = 0; v < n; v++) write_own(a, v, &own[v]);
    if (n > 1) write_weigher(a, weigher);
    free(own);
    return DONE;
}
