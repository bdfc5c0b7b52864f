/* A training step of the whole network: forward pass, quantile loss, backward pass. R windows at a time go all
 * the way, so that what lies between the blocks is small and stays near; nothing is kept for later.
 */
#include "collapse.h"
#include "gates.h"

/* Parameters, or their gradients, which are added to. */
typedef struct {
    float *first, *first_bias, *second, *second_bias, *gate, *gate_bias, *scale, *shift;
} residual_part;

typedef struct {
    float *gate, *gate_bias, *scale, *shift;
} gate_part;

typedef struct {
    float *input, *hidden, *input_bias, *hidden_bias;
} lstm_part;

/* Of a variable selection: the weigher's, all NULL for one variable, then the variables' own. What collapse.c
 * makes: into, start, skip, skip_bias, own_hidden, own_skip, own_curve. */
typedef struct {
    float *into, *start, *context, *second, *second_bias, *gate, *gate_bias, *scale, *shift;
    float *skip, *skip_bias, *skip_scale, *skip_shift;
    float *own_hidden, *own_skip, *own_curve, *own_second, *own_second_bias;
    float *own_gate, *own_gate_bias, *own_scale, *own_shift;
} selection_part;

typedef struct {
    residual_part choosing, hidden, cell, enriching;
    selection_part select[2]; /* of the encoder, of the horizon */
    lstm_part lstm[2];
    gate_part local;
    residual_part enrichment;
    float *enrichment_context;
    float *query, *query_bias, *key, *key_bias, *join;
    gate_part attended;
    residual_part feed;
    gate_part output;
    float *head, *head_bias; /* (targets * quantiles, H) */
    collapsible_part collapsible[2];
} parameters;

/* A matrix, or one column of it, somewhere: entry (window, step). */
typedef struct {
    const float *at;
    int64_t by_window, by_step;
} strided;

#define MOST_TARGETS 32
typedef struct {
    /* `windows` of `past` and then `horizon` steps; hidden size; of the variable selection features inside
     * a variable's network, variables, features of the weigher; chunks of R windows, `begin` to `end`. */
    int64_t windows, past, horizon, size, inner, variables[2], weigh[2], heads, width, causal;
    int64_t targets, quantiles, threshold, seed, begin, end;
    const float *levels;
    strided numbers[2];          /* all inputs, of the encoder, of the horizon; one after the other */
    const int64_t *places[2];    /* which of them are the variables */
    const float *statics;        /* (windows, H) */
    float *d_statics;            /* NULL where nobody asks */
    double *losses;              /* sums over windows, steps and targets: ours, that of a forecast of zero */
    double share;                /* of one observed step in the mean */
    strided actual[MOST_TARGETS], scale[MOST_TARGETS], observed[MOST_TARGETS]; /* no weights: NULL */
    collapsing collapsing[2]; /* of the encoder's variables, of the horizon's */
    parameters w, d;
} network;

/* Rows (steps * windows, H) of a chunk, time first; `d_` their derivatives. */
typedef struct {
    float *numbers, *shares, *selected, *recurrent, *local, *enriched, *attended, *gated, *fed, *output;
    float *d_selected, *d_again, *d_local, *d_enriched, *d_attended, *d_gated, *d_fed, *d_output, *d_tail, *d_last;
    float *kept; /* of the LSTMs */
    float *choosing, *hidden, *cell, *enriching, *contexts[3]; /* (windows, ·) */
    float *d_choosing, *d_hidden, *d_cell, *d_enriching, *d_contexts[3], *d_static;
} buffers;

enum { CHOOSING, HIDDEN, CELL, ENRICHING, PAST, AHEAD, LOCAL, ENRICHMENT, ATTENTION, ATTENDED, FEED, PLACES };

typedef struct {
    const network *a;
    int64_t chunk, from, windows, steps, rows, ahead; /* `ahead`: rows of the horizon */
    buffers b;
} chunk;

static int64_t blocks_of(int64_t rows) { return (rows + R - 1) / R; }

/* The seed of one place of one chunk: splitmix64. */
static int64_t seed_at(const chunk *c, int place) {
    uint64_t z = (uint64_t)c->a->seed + 0x9e3779b97f4a7c15u * (uint64_t)(c->chunk * PLACES + place + 1);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (int64_t)((z ^ z >> 31) & 0x3fffffffffffffffu);
}

static residual block_of(const chunk *c, int place, int64_t rows, const residual_part *w, const float *x,
                         const float *context, const float *skip, float *y) {
    const int64_t size = c->a->size;
    const residual found = {
        .rows = rows, .cycle = context ? c->windows : rows, .in = size, .inner = size, .out = size,
        .threshold = place < 0 ? 0 : c->a->threshold, .seed = place < 0 ? 0 : seed_at(c, place),
        .begin = 0, .end = blocks_of(rows), .x = x, .context = context, .skip = skip,
        .first = w->first, .first_bias = w->first_bias, .second = w->second, .second_bias = w->second_bias,
        .g = {w->gate, w->gate_bias, w->scale, w->shift}, .y = y,
    };
    return found;
}

static int forth(const chunk *c, int place, int64_t rows, const residual_part *w, const float *x,
                 const float *context, const float *skip, float *y) {
    const residual r = block_of(c, place, rows, w, x, context, skip, y);
    return residual_forward(&r);
}

static int back(const chunk *c, int place, int64_t rows, const residual_part *w, const residual_part *d,
                const float *x, const float *context, const float *skip, const float *dy, float *dx,
                float *d_context, float *d_skip) {
    residual r = block_of(c, place, rows, w, x, context, skip, 0);
    r.dy = dy, r.dx = dx, r.d_context = d_context, r.d_skip = d_skip;
    r.d_first = d->first, r.d_first_bias = d->first_bias, r.d_second = d->second;
    r.d_second_bias = d->second_bias;
    r.dg = (gate_gradient){d->gate, d->gate_bias, d->scale, d->shift};
    return residual_backward(&r);
}

static residual_part gate_alone(const gate_part *g) {
    return (residual_part){.gate = g->gate, .gate_bias = g->gate_bias, .scale = g->scale, .shift = g->shift};
}

/* y (rows, out) = x (rows, in) times the weight (out, in), plus `start` (out). */
static void project_rows(float *y, int64_t rows, int in, int out, const float *x, const float *weight,
                         const float *start) {
    tile from[MOST], to[MOST];
    for (int64_t block = 0; block < blocks_of(rows); block++) {
        const int at = block * R, count = rows - at < R ? rows - at : R;
        load(from, in, x, at, count, rows);
        linear(to, out, in, weight, from, start);
        store(y, out, at, count, to);
    }
}

/* Of `project_rows`: dx is added to, as are the sums. */
static void project_rows_back(float *dx, int64_t rows, int in, int out, const float *x, const float *weight,
                              const float *dy, float *d_weight, float *d_start) {
    tile from[MOST], d[MOST], d_from[MOST];
    float turned[R * MOST], sums[MOST * MOST];
    vf start[MOST] = {0};
    memset(sums, 0, sizeof(float) * out * padded(in));
    for (int64_t block = 0; block < blocks_of(rows); block++) {
        const int at = block * R, count = rows - at < R ? rows - at : R;
        load(from, in, x, at, count, rows);
        load(d, out, dy, at, count, rows);
        to_rows(turned, padded(in), from, in);
        outer(sums, out, padded(in), d, turned);
        tally(start, out, d);
        load(d_from, in, dx, at, count, rows);
        linear_back(d_from, in, out, weight, d, 1);
        store(dx, in, at, count, d_from);
    }
    write_weight(d_weight, out, in, sums, padded(in));
    if (d_start) write_sums(d_start, start, out);
}

static void add_to(float *sum, const float *more, int64_t count) {
    for (int64_t i = 0; i < count; i++) sum[i] += more[i];
}

static int64_t rows_of(const chunk *c, int part) { return (part ? c->a->horizon : c->a->past) * c->windows; }

/* The variables of a part of the chunk as (V, steps * windows). */
static void gather_numbers(const chunk *c, int part) {
    const network *a = c->a;
    const strided *all = &a->numbers[part];
    const int64_t rows = rows_of(c, part), steps = rows / c->windows;
    for (int64_t v = 0; v < a->variables[part]; v++) {
        float *to = c->b.numbers + v * rows;
        const float *from = all->at + c->from * all->by_window + a->places[part][v];
        for (int64_t t = 0; t < steps; t++)
            for (int64_t b = 0; b < c->windows; b++) to[t * c->windows + b] = from[b * all->by_window + t * all->by_step];
    }
}

static selection chooser_of(const chunk *c, int part) {
    const network *a = c->a;
    const selection_part *w = &a->w.select[part], *d = &a->d.select[part];
    const int64_t rows = rows_of(c, part);
    const int weighs = a->variables[part] > 1;
    const selection found = {
        .rows = rows, .cycle = weighs ? c->windows : rows, .variables = a->variables[part], .inner = a->inner,
        .out = a->size, .weigh = weighs ? a->weigh[part] : 0, .threshold = a->threshold,
        .seed = seed_at(c, PAST + part), .begin = 0, .end = blocks_of(rows), .x = c->b.numbers,
        .w = {w->into, c->b.contexts[part], w->second, w->second_bias,
              {w->gate, w->gate_bias, w->scale, w->shift}, w->skip, w->skip_bias, w->skip_scale, w->skip_shift},
        .hidden = w->own_hidden, .skip = w->own_skip, .curve = w->own_curve,
        .second = w->own_second, .second_bias = w->own_second_bias,
        .g = {w->own_gate, w->own_gate_bias, w->own_scale, w->own_shift},
        .y = c->b.selected + (part ? (c->rows - c->ahead) * a->size : 0), .shares = c->b.shares,
        .dy = c->b.d_selected + (part ? (c->rows - c->ahead) * a->size : 0),
        .dw = {d->into, c->b.d_contexts[part], d->second, d->second_bias,
               {d->gate, d->gate_bias, d->scale, d->shift}, d->skip, d->skip_bias, d->skip_scale, d->skip_shift},
        .d_hidden = d->own_hidden, .d_skip = d->own_skip, .d_curve = d->own_curve,
        .d_second = d->own_second, .d_second_bias = d->own_second_bias,
        .dg = {d->own_gate, d->own_gate_bias, d->own_scale, d->own_shift},
    };
    return found;
}

static int choose_variables(const chunk *c, int part) {
    const network *a = c->a;
    gather_numbers(c, part);
    if (a->variables[part] > 1)
        project_rows(c->b.contexts[part], c->windows, a->size, a->weigh[part], c->b.choosing,
                     a->w.select[part].context, a->w.select[part].start);
    const selection s = chooser_of(c, part);
    return selection_forward(&s);
}

static int choose_variables_back(const chunk *c, int part) {
    const network *a = c->a;
    gather_numbers(c, part);
    const selection s = chooser_of(c, part);
    if (selection_backward(&s)) return NO_MEMORY;
    if (a->variables[part] > 1)
        project_rows_back(c->b.d_choosing, c->windows, a->size, a->weigh[part], c->b.choosing,
                          a->w.select[part].context, c->b.d_contexts[part], a->d.select[part].context,
                          a->d.select[part].start);
    return DONE;
}

static recurrent recurrence_of(const chunk *c) {
    const lstm_part *w = c->a->w.lstm, *d = c->a->d.lstm;
    recurrent found = {
        .windows = c->windows, .steps = c->steps, .past = c->a->past, .size = c->a->size, .begin = 0,
        .end = blocks_of(c->windows), .x = c->b.selected, .h = c->b.hidden, .c = c->b.cell,
        .y = c->b.recurrent, .kept = c->b.kept, .dy = c->b.d_again, .dx = c->b.d_last, .dh = c->b.d_hidden,
        .dc = c->b.d_cell,
    };
    for (int p = 0; p < 2; p++) {
        found.part[p] = (lstm){w[p].input, w[p].hidden, w[p].input_bias, w[p].hidden_bias};
        found.d_part[p] = (lstm_gradient){d[p].input, d[p].hidden, d[p].input_bias};
    }
    return found;
}

static attention attention_of(const chunk *c) {
    const network *a = c->a;
    const parameters *w = &a->w, *d = &a->d;
    const attention found = {
        .windows = c->windows, .steps = c->steps, .past = a->past, .size = a->size, .heads = a->heads,
        .width = a->width, .causal = a->causal, .threshold = a->threshold, .seed = seed_at(c, ATTENTION),
        .begin = 0, .end = blocks_of(c->windows), .x = c->b.enriched, .query = w->query,
        .query_bias = w->query_bias, .key = w->key, .key_bias = w->key_bias, .join = w->join,
        .y = c->b.attended, .dy = c->b.d_attended, .dx = c->b.d_enriched, .d_query = d->query,
        .d_query_bias = d->query_bias, .d_key = d->key, .d_key_bias = d->key_bias, .d_join = d->join,
    };
    return found;
}

static int static_blocks(const chunk *c) {
    const parameters *w = &c->a->w;
    const float *x = c->a->statics + c->from * c->a->size;
    return forth(c, CHOOSING, c->windows, &w->choosing, x, 0, 0, c->b.choosing) ||
           forth(c, HIDDEN, c->windows, &w->hidden, x, 0, 0, c->b.hidden) ||
           forth(c, CELL, c->windows, &w->cell, x, 0, 0, c->b.cell) ||
           forth(c, ENRICHING, c->windows, &w->enriching, x, 0, 0, c->b.enriching);
}

static int static_blocks_back(const chunk *c) {
    const parameters *w = &c->a->w, *d = &c->a->d;
    const buffers *b = &c->b;
    const int64_t size = c->a->size, count = c->windows * size;
    const float *x = c->a->statics + c->from * size;
    const residual_part *own[] = {&w->choosing, &w->hidden, &w->cell, &w->enriching};
    const residual_part *sums[] = {&d->choosing, &d->hidden, &d->cell, &d->enriching};
    const float *dy[] = {b->d_choosing, b->d_hidden, b->d_cell, b->d_enriching};
    float *to = c->a->d_statics ? c->a->d_statics + c->from * size : 0;
    for (int i = 0; i < 4; i++) {
        if (back(c, CHOOSING + i, c->windows, own[i], sums[i], x, 0, 0, dy[i], b->d_static, 0, 0)) return NO_MEMORY;
        if (!to) continue;
        if (i)
            add_to(to, b->d_static, count);
        else
            memcpy(to, b->d_static, sizeof(float) * count);
    }
    return DONE;
}

static int forward(const chunk *c) {
    const network *a = c->a;
    const buffers *b = &c->b;
    const parameters *w = &a->w;
    const int64_t tail = (c->rows - c->ahead) * a->size;
    const residual_part local = gate_alone(&w->local), attended = gate_alone(&w->attended);
    const residual_part output = gate_alone(&w->output);
    const recurrent r = recurrence_of(c);
    const attention look = attention_of(c);
    if (static_blocks(c) || choose_variables(c, 0) || choose_variables(c, 1)) return NO_MEMORY;
    recurrent_forward(&r);
    forth(c, LOCAL, c->rows, &local, b->recurrent, 0, b->selected, b->local);
    project_rows(b->contexts[2], c->windows, a->size, a->size, b->enriching, w->enrichment_context, 0);
    forth(c, ENRICHMENT, c->rows, &w->enrichment, b->local, b->contexts[2], 0, b->enriched);
    if (attention_forward(&look)) return NO_MEMORY;
    forth(c, ATTENDED, c->ahead, &attended, b->attended, 0, b->enriched + tail, b->gated);
    forth(c, FEED, c->ahead, &w->feed, b->gated, 0, 0, b->fed);
    forth(c, -1, c->ahead, &output, b->fed, 0, b->local + tail, b->output);
    return DONE;
}

static int backward(const chunk *c) {
    const network *a = c->a;
    const buffers *b = &c->b;
    const parameters *w = &a->w, *d = &a->d;
    const int64_t size = a->size, tail = (c->rows - c->ahead) * size, ahead = c->ahead * size;
    const residual_part local = gate_alone(&w->local), attended = gate_alone(&w->attended);
    const residual_part output = gate_alone(&w->output), d_local = gate_alone(&d->local);
    const residual_part d_attended = gate_alone(&d->attended), d_output = gate_alone(&d->output);
    const recurrent r = recurrence_of(c);
    const attention look = attention_of(c);
    if (back(c, -1, c->ahead, &output, &d_output, b->fed, 0, b->local + tail, b->d_output, b->d_fed, 0, b->d_tail) ||
        back(c, FEED, c->ahead, &w->feed, &d->feed, b->gated, 0, 0, b->d_fed, b->d_gated, 0, 0) ||
        back(c, ATTENDED, c->ahead, &attended, &d_attended, b->attended, 0, b->enriched + tail, b->d_gated,
             b->d_attended, 0, b->d_fed) ||
        attention_backward(&look))
        return NO_MEMORY;
    add_to(b->d_enriched + tail, b->d_fed, ahead);
    if (back(c, ENRICHMENT, c->rows, &w->enrichment, &d->enrichment, b->local, b->contexts[2], 0, b->d_enriched,
             b->d_local, b->d_contexts[2], 0))
        return NO_MEMORY;
    add_to(b->d_local + tail, b->d_tail, ahead);
    project_rows_back(b->d_enriching, c->windows, size, size, b->enriching, w->enrichment_context,
                      b->d_contexts[2], d->enrichment_context, 0);
    if (back(c, LOCAL, c->rows, &local, &d_local, b->recurrent, 0, b->selected, b->d_local, b->d_again, 0,
             b->d_selected) ||
        recurrent_backward(&r))
        return NO_MEMORY;
    add_to(b->d_selected, b->d_last, c->rows * size);
    return choose_variables_back(c, 0) || choose_variables_back(c, 1) || static_blocks_back(c);
}

/* The forecasts of a block of rows, their losses, and `d` by the forecasts. */
INLINE void losses_of(const chunk *c, int64_t row, int count, const tile *forecast, tile *d) {
    const network *a = c->a;
    const int quantiles = a->quantiles;
    for (int64_t k = 0; k < a->targets; k++) {
        const strided *actual = &a->actual[k], *scale = &a->scale[k], *observed = &a->observed[k];
        float scaled[R] = {0}, weight[R] = {0};
        for (int r = 0; r < count; r++) {
            const int64_t window = c->from + (row + r) % c->windows, step = (row + r) / c->windows;
            const float *of = scale->at + window * scale->by_window;
            scaled[r] = (actual->at[window * actual->by_window + step * actual->by_step] - of[0]) / of[scale->by_step];
            weight[r] = observed->at ? observed->at[window * observed->by_window + step * observed->by_step] : 1.0f;
        }
        for (int r = 0; r < count; r++) {
            float loss = 0.0f;
            for (int q = 0; q < quantiles; q++) {
                const float error = scaled[r] - ((const float *)forecast[k * quantiles + q])[r], level = a->levels[q];
                const float over = level * error, under = (level - 1.0f) * error;
                const float slope = over > under ? level : over < under ? level - 1.0f : over == under ? level - 0.5f : error;
                loss += over > under || over != over ? over : under;
                ((float *)d[k * quantiles + q])[r] = -2.0f / quantiles * slope * weight[r] * (float)a->share;
            }
            a->losses[0] += (double)(2.0f / quantiles * loss) * weight[r];
            a->losses[1] += (double)fabsf(scaled[r]) * weight[r];
        }
        for (int r = count; r < R; r++)
            for (int q = 0; q < quantiles; q++) ((float *)d[k * quantiles + q])[r] = 0.0f;
    }
}

/* The heads, and the loss on them. */
static void judge(const chunk *c) {
    const network *a = c->a;
    const int size = a->size, out = a->targets * a->quantiles;
    tile x[MOST], forecast[MOST], d[MOST], dx[MOST];
    float turned[R * MOST], sums[MOST * MOST];
    vf bias[MOST] = {0};
    memset(sums, 0, sizeof(float) * out * padded(size));
    for (int64_t block = 0; block < blocks_of(c->ahead); block++) {
        const int at = block * R, count = c->ahead - at < R ? c->ahead - at : R;
        load(x, size, c->b.output, at, count, c->ahead);
        linear(forecast, out, size, a->w.head, x, a->w.head_bias);
        losses_of(c, at, count, forecast, d);
        to_rows(turned, padded(size), x, size);
        outer(sums, out, padded(size), d, turned);
        tally(bias, out, d);
        linear_back(dx, size, out, a->w.head, d, 0);
        store(c->b.d_output, size, at, count, dx);
    }
    write_weight(a->d.head, out, size, sums, padded(size));
    write_sums(a->d.head_bias, bias, out);
}

/* The next `count` numbers of the scratch, on a border of 64 bytes; with none, how many there have to be. */
static float *take(float *scratch, size_t *used, size_t count) {
    float *found = scratch ? scratch + *used : 0;
    *used += (count + 15) / 16 * 16;
    return found;
}

static size_t lay_out(const network *a, float *scratch, buffers *b) {
    const size_t steps = a->past + a->horizon, size = a->size, rows = steps * R, ahead = a->horizon * R;
    const size_t most = a->variables[0] > a->variables[1] ? a->variables[0] : a->variables[1];
    size_t used = 0;
    float **whole[] = {&b->selected, &b->recurrent, &b->local, &b->enriched, &b->d_selected, &b->d_again,
                       &b->d_local, &b->d_enriched, &b->d_last};
    float **tails[] = {&b->attended, &b->gated, &b->fed, &b->output, &b->d_attended, &b->d_gated, &b->d_fed,
                       &b->d_output, &b->d_tail};
    float **windows[] = {&b->choosing, &b->hidden, &b->cell, &b->enriching, &b->contexts[0], &b->contexts[1],
                         &b->contexts[2], &b->d_hidden, &b->d_cell, &b->d_static};
    /* Sums over a chunk's rows: zeroed for each. These lie side by side, the first first. */
    float **sums[] = {&b->d_choosing, &b->d_enriching, &b->d_contexts[0], &b->d_contexts[1], &b->d_contexts[2]};
    for (size_t i = 0; i < sizeof(whole) / sizeof(*whole); i++) *whole[i] = take(scratch, &used, rows * size);
    for (size_t i = 0; i < sizeof(tails) / sizeof(*tails); i++) *tails[i] = take(scratch, &used, ahead * size);
    for (size_t i = 0; i < sizeof(windows) / sizeof(*windows); i++) *windows[i] = take(scratch, &used, R * MOST);
    for (size_t i = 0; i < sizeof(sums) / sizeof(*sums); i++) *sums[i] = take(scratch, &used, R * MOST);
    b->numbers = take(scratch, &used, most * rows);
    b->shares = take(scratch, &used, most * rows);
    b->kept = take(scratch, &used, steps * 5 * size * R);
    return used;
}

static collapsed_part collapsed_of(const selection_part *s) {
    return (collapsed_part){s->into, s->start, s->skip, s->skip_bias, s->own_hidden, s->own_skip, s->own_curve};
}

/* To be called before the step: writes what is collapsed. */
int network_collapse(const network *a) {
    for (int p = 0; p < 2; p++) {
        const collapsed_part to = collapsed_of(&a->w.select[p]);
        collapse(&a->collapsing[p], &a->w.collapsible[p], &to);
    }
    return DONE;
}

/* To be called after it: adds to the parameters' gradients what the gradients by the collapsed give. */
int network_expand(const network *a) {
    for (int p = 0; p < 2; p++) {
        const collapsed_part w = collapsed_of(&a->w.select[p]), d = collapsed_of(&a->d.select[p]);
        expand(&a->collapsing[p], &a->w.collapsible[p], &w, &d, &a->d.collapsible[p]);
    }
    return DONE;
}

int network_step(const network *a) {
    chunk c = {.a = a};
    float *scratch = aligned_alloc(64, sizeof(float) * lay_out(a, 0, &c.b));
    if (!scratch) return NO_MEMORY;
    lay_out(a, scratch, &c.b);
    int failed = DONE;
    for (c.chunk = a->begin; c.chunk < a->end && !failed; c.chunk++) {
        c.from = c.chunk * R;
        c.windows = a->windows - c.from < R ? a->windows - c.from : R;
        c.steps = a->past + a->horizon;
        c.rows = c.steps * c.windows, c.ahead = a->horizon * c.windows;
        memset(c.b.d_choosing, 0, sizeof(float) * 5 * R * MOST);
        failed = forward(&c);
        if (failed) break;
        judge(&c);
        failed = backward(&c);
    }
    for (int p = 0; p < 2; p++)
        memcpy(a->d.lstm[p].hidden_bias, a->d.lstm[p].input_bias, sizeof(float) * 4 * a->size);
    free(scratch);
    return failed;
}
