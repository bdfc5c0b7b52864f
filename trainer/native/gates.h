/* The tail of every gated residual network: gated linear unit, plus the skip, layer normalized. */
#ifndef GATES_H
#define GATES_H
#include "tile.h"

/* weight (2 O, C), bias (2 O), scale and shift of the norm (O). */
typedef struct {
    const float *weight, *bias, *scale, *shift;
} gate;

typedef struct {
    float *weight, *bias, *scale, *shift;
} gate_gradient;

typedef struct {
    float *weight; /* (2 O, padded C) */
    vf bias[2 * MOST], scale[MOST], shift[MOST];
} gate_sums;

/* ELU in place; slope is its derivative. */
INLINE void elu(tile *x, tile *slope, int features) {
    for (int f = 0; f < features; f++)
        for (int u = 0; u < 2; u++) {
            const vf zero = {0};
            vf e = vexp(choose(x[f][u] > 0.0f, zero, x[f][u]));
            x[f][u] = choose(x[f][u] > 0.0f, x[f][u], e - 1.0f);
            if (slope) slope[f][u] = e;
        }
}

/* In place: less the mean, over the deviation. */
INLINE void normalize(tile *x, tile inverse, int features) {
    for (int u = 0; u < 2; u++) {
        vf mean = {0}, square = {0};
        for (int f = 0; f < features; f++) mean += x[f][u];
        mean *= 1.0f / features;
        for (int f = 0; f < features; f++) {
            x[f][u] -= mean;
            square += x[f][u] * x[f][u];
        }
        inverse[u] = inverse_root(square * (1.0f / features) + EPSILON);
        for (int f = 0; f < features; f++) x[f][u] *= inverse[u];
    }
}

/* In place: from the derivative by the normalized to that by what was normalized. */
INLINE void normalize_back(tile *d, const tile *unit, const tile inverse, int features) {
    for (int u = 0; u < 2; u++) {
        vf mean = {0}, along = {0};
        for (int f = 0; f < features; f++) mean += d[f][u], along += d[f][u] * unit[f][u];
        mean *= 1.0f / features, along *= 1.0f / features;
        for (int f = 0; f < features; f++) d[f][u] = inverse[u] * (d[f][u] - mean - unit[f][u] * along);
    }
}

/* both (2 O): what comes through, then how open it is. `unit` holds the skip, then the normalized sum. */
INLINE void open_gate(gate g, int o, int c, const tile *inner, tile *both, tile *unit, tile inverse) {
    linear(both, 2 * o, c, g.weight, inner, g.bias);
    for (int j = 0; j < o; j++)
        for (int u = 0; u < 2; u++) {
            both[o + j][u] = sigmoid(both[o + j][u]);
            both[j][u] *= both[o + j][u];
            unit[j][u] += both[j][u];
        }
    normalize(unit, inverse, o);
}

INLINE void scale_and_shift(tile *x, const float *scale, const float *shift, int features) {
    for (int f = 0; f < features; f++)
        for (int u = 0; u < 2; u++) x[f][u] = x[f][u] * scale[f] + shift[f];
}

/* d is the derivative by what the norm put out; it becomes the one by the skip. */
INLINE void norm_gradient(gate g, gate_sums *sums, int o, const tile *unit, const tile inverse, tile *d) {
    for (int j = 0; j < o; j++) {
        sums->scale[j] += d[j][0] * unit[j][0] + d[j][1] * unit[j][1];
        sums->shift[j] += d[j][0] + d[j][1];
        for (int u = 0; u < 2; u++) d[j][u] *= g.scale[j];
    }
    normalize_back(d, unit, inverse, o);
}

/* d by the gated, `both` as `open_gate` left it (it is overwritten); d_inner by the gate's input. */
INLINE void gate_gradient_of(gate g, gate_sums *sums, int o, int c, const tile *inner, tile *both,
                             const tile *d, tile *d_inner) {
    float rows[R * MOST];
    const int width = padded(c);
    for (int j = 0; j < o; j++)
        for (int u = 0; u < 2; u++) {
            vf open = both[o + j][u], through = d[j][u] * both[j][u];
            both[j][u] = d[j][u] * open;
            both[o + j][u] = through - through * open;
        }
    to_rows(rows, width, inner, c);
    outer(sums->weight, 2 * o, width, both, rows);
    tally(sums->bias, 2 * o, both);
    linear_back(d_inner, c, 2 * o, g.weight, both, 0);
}

INLINE void write_gate(gate_gradient to, gate_sums *sums, int o, int c) {
    write_weight(to.weight, 2 * o, c, sums->weight, padded(c));
    write_sums(to.bias, sums->bias, 2 * o);
    write_sums(to.scale, sums->scale, o);
    write_sums(to.shift, sums->shift, o);
}
#endif
