/* Gated residual networks, and gated linear units with a norm, forward and backward. */
#include "gates.h"

typedef struct {
    /* x (rows, in); context (cycle, inner) joins row n at n % cycle; out and skip (rows, out). Blocks
     * `begin` to `end` are computed. */
    int64_t rows, cycle, in, inner, out, threshold, seed, begin, end;
    const float *x, *context; /* no context: NULL */
    const float *skip;        /* NULL: x itself */
    const float *first, *first_bias; /* (inner, in); NULL: x goes into the gate, but for dropout */
    const float *second, *second_bias;
    gate g;
    float *y;
    const float *dy;
    float *dx, *d_skip;
    float *d_context; /* added to */
    float *d_first, *d_first_bias, *d_second, *d_second_bias;
    gate_gradient dg;
} residual;

typedef struct {
    tile x[MOST], active[MOST], slope[MOST], inner[MOST], both[2 * MOST], unit[MOST], inverse;
} state;

INLINE void compute(const residual *a, int block, int rows, state *s) {
    const int in = a->in, inner = a->inner, out = a->out;
    const dropout d = dropout_of(a->threshold, a->seed);
    const int from = block * R;
    load(s->x, in, a->x, from, rows, a->rows);
    if (a->first) {
        linear(s->active, inner, in, a->first, s->x, a->first_bias);
        if (a->context) {
            load(s->inner, inner, a->context, from, rows, a->cycle);
            for (int f = 0; f < inner; f++)
                for (int u = 0; u < 2; u++) s->active[f][u] += s->inner[f][u];
        }
        elu(s->active, s->slope, inner);
        linear(s->inner, inner, inner, a->second, s->active, a->second_bias);
    } else
        memcpy(s->inner, s->x, sizeof(tile) * inner);
    if (a->threshold)
        for (int f = 0; f < inner; f++) drop(s->inner[f], d, (uint32_t)(block * inner + f));
    if (a->skip)
        load(s->unit, out, a->skip, from, rows, a->rows);
    else
        memcpy(s->unit, s->x, sizeof(tile) * out);
    open_gate(a->g, out, inner, s->inner, s->both, s->unit, s->inverse);
}

int residual_forward(const residual *a) {
    state s;
    for (int block = a->begin; block < a->end; block++) {
        const int from = block * R, rows = a->rows - from < R ? a->rows - from : R;
        compute(a, block, rows, &s);
        scale_and_shift(s.unit, a->g.scale, a->g.shift, a->out);
        store(a->y, a->out, from, rows, s.unit);
    }
    return DONE;
}

int residual_backward(const residual *a) {
    const int in = a->in, inner = a->inner, out = a->out;
    const dropout drops = dropout_of(a->threshold, a->seed);
    state s;
    tile d[MOST], d_inner[MOST], d_x[MOST];
    float turned[R * MOST];
    vf first_bias[MOST] = {0}, second_bias[MOST] = {0};
    gate_sums sums = {0};
    const size_t gate_size = (size_t)2 * out * padded(inner), second_size = (size_t)inner * padded(inner);
    float *scratch = zeros(sizeof(float) * (gate_size + second_size + (size_t)inner * padded(in)));
    if (!scratch) return NO_MEMORY;
    float *second = scratch + gate_size, *first = second + second_size;
    sums.weight = scratch;
    for (int block = a->begin; block < a->end; block++) {
        const int from = block * R, rows = a->rows - from < R ? a->rows - from : R;
        compute(a, block, rows, &s);
        load(d, out, a->dy, from, rows, a->rows);
        norm_gradient(a->g, &sums, out, s.unit, s.inverse, d);
        if (a->skip) store(a->d_skip, out, from, rows, d);
        gate_gradient_of(a->g, &sums, out, inner, s.inner, s.both, d, d_inner);
        if (a->threshold)
            for (int f = 0; f < inner; f++) drop(d_inner[f], drops, (uint32_t)(block * inner + f));
        if (!a->first) {
            store(a->dx, in, from, rows, d_inner);
            continue;
        }
        to_rows(turned, padded(inner), s.active, inner);
        outer(second, inner, padded(inner), d_inner, turned);
        tally(second_bias, inner, d_inner);
        tile *d_active = s.inner; /* done with */
        linear_back(d_active, inner, inner, a->second, d_inner, 0);
        for (int f = 0; f < inner; f++)
            for (int u = 0; u < 2; u++) d_active[f][u] *= s.slope[f][u];
        if (a->context) add_rows(a->d_context, inner, from, rows, a->cycle, d_active);
        to_rows(turned, padded(in), s.x, in);
        outer(first, inner, padded(in), d_active, turned);
        tally(first_bias, inner, d_active);
        if (a->skip)
            memset(d_x, 0, sizeof(tile) * in);
        else
            memcpy(d_x, d, sizeof(tile) * in);
        linear_back(d_x, in, inner, a->first, d_active, 1);
        store(a->dx, in, from, rows, d_x);
    }
    write_gate(a->dg, &sums, out, inner);
    if (a->first) {
        write_weight(a->d_first, inner, in, first, padded(in));
        write_sums(a->d_first_bias, first_bias, inner);
        write_weight(a->d_second, inner, inner, second, padded(inner));
        write_sums(a->d_second_bias, second_bias, inner);
    }
    free(scratch);
    return DONE;
}
