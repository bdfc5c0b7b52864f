/* Everything of a variable selection that is affine in a variable, a number a step, collapsed; and the way back.
 * As trainer/network/selection.py, where the formulas are explained.
 */
#ifndef COLLAPSE_H
#define COLLAPSE_H
#include "tile.h"
#define TINY 1e-12f

/* V variables, each scaled up to F features; C inside a variable's own network, O outside; `weigh` features in
 * the network that weighs them, 0 where there is none. */
typedef struct {
    int64_t variables, scaled, inner, out, weigh;
    const int64_t *scalers;  /* (V): whose scale each variable has */
    const float *stretch;    /* (F, O), an interpolation; NULL where F is O */
    const float *to_shares;  /* (V * F, V), likewise; NULL where F is 1 */
} collapsing;

/* The parameters, or their gradients. */
typedef struct {
    float *scale, *shift;                                 /* (·, F) each, by `scalers` */
    float *first, *first_bias;                            /* (V, C, F), (V, C) */
    float *mask, *norm_scale, *norm_shift;                /* (V, O) */
    float *weigh_first, *weigh_first_bias, *weigh_mask;   /* (weigh, V * F), (weigh), (V) */
} collapsible_part;

typedef struct {
    float *into, *start, *skip, *skip_bias; /* (weigh, V), (weigh), (V, V), (V) */
    float *hidden, *own_skip, *curve;       /* (V, 2, C), (V, 3, O) or (V, 2, O), (3, V) or NULL */
} collapsed_part;

static float logistic(float x) { return 1.0f / (1.0f + expf(-x)); }

static double dot(const float *a, const float *b, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* y += factor * x */
static void add_times(float *y, float factor, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] += factor * x[i];
}

/* The skip path of one variable before its norm, (2, O): by the variable and by 1, each less its mean. */
static void curve_of(const collapsing *a, const float *const scaling[2], const float *mask, float curve[2][MOST],
                     float plain[2][MOST]) {
    for (int i = 0; i < 2; i++) {
        double mean = 0.0;
        memset(plain[i], 0, sizeof(float) * a->out);
        for (int64_t f = 0; f < a->scaled; f++) add_times(plain[i], scaling[i][f], a->stretch + f * a->out, a->out);
        for (int64_t o = 0; o < a->out; o++) mean += curve[i][o] = 2.0f * plain[i][o] * logistic(mask[o]);
        for (int64_t o = 0; o < a->out; o++) curve[i][o] -= mean / a->out;
    }
}

static void collapse_own(const collapsing *a, const collapsible_part *w, int64_t v, const collapsed_part *to) {
    const int64_t features = a->scaled, out = a->out, inner = a->inner;
    const float *const scaling[2] = {w->scale + a->scalers[v] * features, w->shift + a->scalers[v] * features};
    for (int i = 0; i < 2; i++)
        for (int64_t c = 0; c < inner; c++)
            to->hidden[(v * 2 + i) * inner + c] = dot(scaling[i], w->first + (v * inner + c) * features, features) +
                                                  (i ? w->first_bias[v * inner + c] : 0.0f);
    if (!a->stretch) {
        for (int i = 0; i < 2; i++) memcpy(to->own_skip + (v * 2 + i) * out, scaling[i], sizeof(float) * out);
        return;
    }
    float curve[2][MOST], plain[2][MOST], *skip = to->own_skip + v * 3 * out;
    curve_of(a, scaling, w->mask + v * out, curve, plain);
    const double variance = dot(curve[0], curve[0], out) / out;
    const double shift = dot(curve[0], curve[1], out) / out / (variance + TINY);
    double least = 0.0;
    for (int64_t o = 0; o < out; o++) {
        const double rest = curve[1][o] - shift * curve[0][o];
        least += rest * rest;
        skip[o] = curve[0][o] * w->norm_scale[v * out + o];
        skip[out + o] = rest * w->norm_scale[v * out + o];
        skip[2 * out + o] = w->norm_shift[v * out + o];
    }
    to->curve[v] = shift;
    to->curve[a->variables + v] = variance;
    to->curve[2 * a->variables + v] = least / out + EPSILON;
}

static void expand_own(const collapsing *a, const collapsible_part *w, int64_t v, const collapsed_part *found,
                       const collapsed_part *d, const collapsible_part *to) {
    const int64_t features = a->scaled, out = a->out, inner = a->inner, at = a->scalers[v] * features;
    const float *const scaling[2] = {w->scale + at, w->shift + at};
    float *const d_scaling[2] = {to->scale + at, to->shift + at};
    for (int i = 0; i < 2; i++)
        for (int64_t c = 0; c < inner; c++) {
            const float by_hidden = d->hidden[(v * 2 + i) * inner + c];
            const int64_t row = (v * inner + c) * features;
            add_times(to->first + row, by_hidden, scaling[i], features);
            add_times(d_scaling[i], by_hidden, w->first + row, features);
            if (i) to->first_bias[v * inner + c] += by_hidden;
        }
    if (!a->stretch) {
        for (int i = 0; i < 2; i++) add_times(d_scaling[i], 1.0f, d->own_skip + (v * 2 + i) * out, out);
        return;
    }
    float curve[2][MOST], plain[2][MOST];
    double by_curve[2][MOST];
    const float *by_skip = d->own_skip + v * 3 * out, *norm = w->norm_scale + v * out, *mask = w->mask + v * out;
    curve_of(a, scaling, mask, curve, plain);
    const float *slope = curve[0], *level = curve[1];
    const double variance = dot(slope, slope, out) / out + TINY, shift = dot(slope, level, out) / out / variance;
    double by_shift = d->curve[v], by_variance = d->curve[a->variables + v];
    const double by_least = d->curve[2 * a->variables + v];
    for (int64_t o = 0; o < out; o++) {
        const double rest = level[o] - shift * slope[o];
        const double by_rest = by_skip[out + o] * norm[o] + by_least * 2.0f * rest / out;
        to->norm_scale[v * out + o] += by_skip[o] * slope[o] + by_skip[out + o] * rest;
        to->norm_shift[v * out + o] += by_skip[2 * out + o];
        by_curve[0][o] = by_skip[o] * norm[o] - shift * by_rest;
        by_curve[1][o] = by_rest;
        by_shift -= by_rest * slope[o];
    }
    by_variance -= by_shift * shift / variance;
    for (int64_t o = 0; o < out; o++) {
        by_curve[0][o] += by_shift / variance * level[o] / out + by_variance * 2.0f * slope[o] / out;
        by_curve[1][o] += by_shift / variance * slope[o] / out;
    }
    for (int i = 0; i < 2; i++) {
        double mean = 0.0;
        float by_plain[MOST];
        for (int64_t o = 0; o < out; o++) mean += by_curve[i][o] / out;
        for (int64_t o = 0; o < out; o++) {
            const double open = logistic(mask[o]), own = by_curve[i][o] - mean;
            to->mask[v * out + o] += own * 2.0f * plain[i][o] * open * (1.0f - open);
            by_plain[o] = own * 2.0f * open;
        }
        for (int64_t f = 0; f < features; f++) d_scaling[i][f] += dot(a->stretch + f * out, by_plain, out);
    }
}

/* The scale or the shift of variable v. */
static float *of_variable(const collapsing *a, float *scales, int64_t v) { return scales + a->scalers[v] * a->scaled; }

/* (1 + V, V): what the skip path makes of 1 and of each variable, before the mask. */
static void plain_skip(const collapsing *a, const collapsible_part *w, float *plain) {
    const int64_t n = a->variables, features = a->scaled;
    memset(plain, 0, sizeof(float) * (1 + n) * n);
    for (int64_t v = 0; v < n; v++)
        for (int64_t f = 0; f < features; f++) {
            const float *row = a->to_shares + (v * features + f) * n;
            add_times(plain, of_variable(a, w->shift, v)[f], row, n);
            add_times(plain + (1 + v) * n, of_variable(a, w->scale, v)[f], row, n);
        }
}

static void collapse_weigher(const collapsing *a, const collapsible_part *w, const collapsed_part *to) {
    const int64_t n = a->variables, features = a->scaled;
    for (int64_t c = 0; c < a->weigh; c++) {
        to->start[c] = w->weigh_first_bias[c];
        for (int64_t v = 0; v < n; v++) {
            const float *first = w->weigh_first + (c * n + v) * features;
            to->into[c * n + v] = dot(first, of_variable(a, w->scale, v), features);
            to->start[c] += dot(first, of_variable(a, w->shift, v), features);
        }
    }
    if (!a->to_shares) {
        memset(to->skip, 0, sizeof(float) * n * n);
        for (int64_t v = 0; v < n; v++) {
            to->skip[v * n + v] = *of_variable(a, w->scale, v);
            to->skip_bias[v] = *of_variable(a, w->shift, v);
        }
        return;
    }
    float plain[(1 + n) * n];
    plain_skip(a, w, plain);
    for (int64_t o = 0; o < n; o++) {
        const float strength = 2.0f * logistic(w->weigh_mask[o]);
        to->skip_bias[o] = plain[o] * strength;
        for (int64_t v = 0; v < n; v++) to->skip[o * n + v] = plain[(1 + v) * n + o] * strength;
    }
}

static void expand_weigher(const collapsing *a, const collapsible_part *w, const collapsed_part *d,
                           const collapsible_part *to) {
    const int64_t n = a->variables, features = a->scaled;
    for (int64_t c = 0; c < a->weigh; c++) {
        to->weigh_first_bias[c] += d->start[c];
        for (int64_t v = 0; v < n; v++) {
            const int64_t at = (c * n + v) * features;
            add_times(to->weigh_first + at, d->into[c * n + v], of_variable(a, w->scale, v), features);
            add_times(to->weigh_first + at, d->start[c], of_variable(a, w->shift, v), features);
            add_times(of_variable(a, to->scale, v), d->into[c * n + v], w->weigh_first + at, features);
            add_times(of_variable(a, to->shift, v), d->start[c], w->weigh_first + at, features);
        }
    }
    if (!a->to_shares) {
        for (int64_t v = 0; v < n; v++) {
            *of_variable(a, to->scale, v) += d->skip[v * n + v];
            *of_variable(a, to->shift, v) += d->skip_bias[v];
        }
        return;
    }
    float plain[(1 + n) * n];
    plain_skip(a, w, plain);
    for (int64_t o = 0; o < n; o++) {
        const float open = logistic(w->weigh_mask[o]);
        float by_strength = d->skip_bias[o] * plain[o];
        for (int64_t v = 0; v < n; v++) {
            by_strength += d->skip[o * n + v] * plain[(1 + v) * n + o];
            for (int64_t f = 0; f < features; f++) {
                const float share = a->to_shares[(v * features + f) * n + o] * 2.0f * open;
                of_variable(a, to->scale, v)[f] += share * d->skip[o * n + v];
                of_variable(a, to->shift, v)[f] += share * d->skip_bias[o];
            }
        }
        to->weigh_mask[o] += by_strength * 2.0f * open * (1.0f - open);
    }
}

static void collapse(const collapsing *a, const collapsible_part *w, const collapsed_part *to) {
    for (int64_t v = 0; v < a->variables; v++) collapse_own(a, w, v, to);
    if (a->weigh) collapse_weigher(a, w, to);
}

/* From the derivatives `d` by what was collapsed; added `to` the parameters' gradients. */
static void expand(const collapsing *a, const collapsible_part *w, const collapsed_part *found,
                   const collapsed_part *d, const collapsible_part *to) {
    for (int64_t v = 0; v < a->variables; v++) expand_own(a, w, v, found, d, to);
    if (a->weigh) expand_weigher(a, w, d, to);
}
#endif
