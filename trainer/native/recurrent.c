/* Two LSTMs, one after the other over one sequence: the encoder's, and from its last state the decoder's.
 * R windows at a time go through all steps, so that their state never leaves the cache.
 */
#include "gates.h"

typedef struct {
    const float *input, *hidden, *input_bias, *hidden_bias; /* torch's (4 H, H), (4 H): i, f, g, o */
} lstm;

typedef struct {
    float *input, *hidden, *bias; /* both biases have the same */
} lstm_gradient;

typedef struct {
    /* x and y (steps, windows, H), the first `past` steps the encoder's; h and c (windows, H) at the start.
     * kept (blocks, steps, 5 H, R): the gates and the cell of each step, for the way back. */
    int64_t windows, steps, past, size, begin, end;
    const float *x, *h, *c;
    lstm part[2];
    float *y, *kept;
    const float *dy;
    float *dx, *dh, *dc;
    lstm_gradient d_part[2];
} recurrent;

int recurrent_forward(const recurrent *a) {
    const int size = a->size;
    tile x[MOST], h[MOST], c[MOST], scratch[5 * MOST];
    float bias[2][4 * MOST];
    for (int p = 0; p < 2; p++)
        for (int j = 0; j < 4 * size; j++) bias[p][j] = a->part[p].input_bias[j] + a->part[p].hidden_bias[j];
    for (int block = a->begin; block < a->end; block++) {
        const int from = block * R, rows = a->windows - from < R ? a->windows - from : R;
        load(h, size, a->h, from, rows, a->windows);
        load(c, size, a->c, from, rows, a->windows);
        for (int t = 0; t < a->steps; t++) {
            const int p = t >= a->past;
            const long step = (long)t * a->windows * size;
            tile *g = a->kept ? (tile *)a->kept + ((long)block * a->steps + t) * 5 * size : scratch;
            load(x, size, a->x + step, from, rows, a->windows);
            linear(g, 4 * size, size, a->part[p].input, x, bias[p]);
            product(g, 4 * size, size, a->part[p].hidden, size, 1, h, 0, 1);
            for (int f = 0; f < size; f++)
                for (int u = 0; u < 2; u++) {
                    vf i = sigmoid(g[f][u]), keep = sigmoid(g[size + f][u]);
                    vf new = vtanh(g[2 * size + f][u]), o = sigmoid(g[3 * size + f][u]);
                    c[f][u] = keep * c[f][u] + i * new;
                    h[f][u] = o * vtanh(c[f][u]);
                    g[f][u] = i, g[size + f][u] = keep, g[2 * size + f][u] = new, g[3 * size + f][u] = o;
                    g[4 * size + f][u] = c[f][u];
                }
            store(a->y + step, size, from, rows, h);
        }
    }
    return DONE;
}

int recurrent_backward(const recurrent *a) {
    const int size = a->size, width = padded(size);
    tile d[4 * MOST], dh[MOST], dc[MOST], x[MOST], first[MOST], dx[MOST];
    float turned[R * MOST];
    vf bias[2][4 * MOST];
    memset(bias, 0, sizeof(bias));
    const size_t weight = (size_t)4 * size * width;
    float *sums = zeros(sizeof(float) * 4 * weight);
    if (!sums) return NO_MEMORY;
    for (int block = a->begin; block < a->end; block++) {
        const int from = block * R, rows = a->windows - from < R ? a->windows - from : R;
        load(first, size, a->c, from, rows, a->windows);
        memset(dh, 0, sizeof(tile) * size);
        memset(dc, 0, sizeof(tile) * size);
        for (int t = a->steps - 1; t >= 0; t--) {
            const int p = t >= a->past;
            const long step = (long)t * a->windows * size;
            const tile *g = (const tile *)a->kept + ((long)block * a->steps + t) * 5 * size;
            const tile *before = t ? g - 5 * size + 4 * size : first;
            load(x, size, a->dy + step, from, rows, a->windows);
            for (int f = 0; f < size; f++)
                for (int u = 0; u < 2; u++) {
                    vf i = g[f][u], keep = g[size + f][u], new = g[2 * size + f][u], o = g[3 * size + f][u];
                    vf cell = vtanh(g[4 * size + f][u]), all = dh[f][u] + x[f][u];
                    vf d_cell = dc[f][u] + all * o * (1.0f - cell * cell);
                    d[f][u] = d_cell * new * i * (1.0f - i);
                    d[size + f][u] = d_cell * before[f][u] * keep * (1.0f - keep);
                    d[2 * size + f][u] = d_cell * i * (1.0f - new * new);
                    d[3 * size + f][u] = all * cell * o * (1.0f - o);
                    dc[f][u] = d_cell * keep;
                }
            linear_back(dx, size, 4 * size, a->part[p].input, d, 0);
            store(a->dx + step, size, from, rows, dx);
            linear_back(dh, size, 4 * size, a->part[p].hidden, d, 0);
            tally(bias[p], 4 * size, d);
            load(x, size, a->x + step, from, rows, a->windows);
            to_rows(turned, width, x, size);
            outer(sums + 2 * p * weight, 4 * size, width, d, turned);
            const float *state = t ? a->y + step - (long)a->windows * size : a->h;
            load(x, size, state, from, rows, a->windows);
            to_rows(turned, width, x, size);
            outer(sums + (2 * p + 1) * weight, 4 * size, width, d, turned);
        }
        store(a->dh, size, from, rows, dh);
        store(a->dc, size, from, rows, dc);
    }
    for (int p = 0; p < 2; p++) {
        write_weight(a->d_part[p].input, 4 * size, size, sums + 2 * p * weight, width);
        write_weight(a->d_part[p].hidden, 4 * size, size, sums + (2 * p + 1) * weight, width);
        write_sums(a->d_part[p].bias, bias[p], 4 * size);
    }
    free(sums);
    return DONE;
}
