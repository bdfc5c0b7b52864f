/* Interpretable attention: the horizon's steps ask all steps, the heads share one value, and are averaged.
 * R windows side by side, so that scores and softmax are vector operations too.
 */
#include "gates.h"

typedef struct {
    /* x (steps, windows, H), of which the last steps from `past` on ask; `heads` of `width` features. Causal:
     * a step sees only those before it. Dropout of each head's result, and of the output. */
    int64_t windows, steps, past, size, heads, width, causal, threshold, seed, begin, end;
    const float *x;
    const float *query, *query_bias; /* (heads * width, H) */
    const float *key, *key_bias;     /* ((heads + 1) * width, H), the value last */
    const float *join;               /* (H, width) */
    float *y, *weights; /* (horizon, windows, H); (windows, horizon, heads, steps) or NULL */
    const float *dy;
    float *dx;
    float *d_query, *d_query_bias, *d_key, *d_key_bias, *d_join;
} attention;

/* Queries (horizon, heads * width), scaled; keys and value (steps, (heads + 1) * width). */
INLINE void project(const attention *a, int from, int rows, tile *x, tile *queries, tile *keys) {
    const int all = a->heads * a->width, wide = all + a->width;
    const float scale = 1.0f / sqrtf(a->width);
    for (int t = 0; t < a->steps; t++) {
        load(x, a->size, a->x + (long)t * a->windows * a->size, from, rows, a->windows);
        linear(keys + (long)t * wide, wide, a->size, a->key, x, a->key_bias);
        if (t < a->past) continue;
        tile *q = queries + (long)(t - a->past) * all;
        linear(q, all, a->size, a->query, x, a->query_bias);
        for (int f = 0; f < all; f++)
            for (int u = 0; u < 2; u++) q[f][u] *= scale;
    }
}

INLINE int seen_by(const attention *a, int d) { return a->causal ? a->past + d : a->steps; }

/* The shares p (steps) of what one step of the horizon sees, and what it sees of the value. */
INLINE void look(const attention *a, int d, int h, const tile *q, const tile *keys, tile *p, tile *seen) {
    const int width = a->width, wide = (a->heads + 1) * width, count = seen_by(a, d);
    for (int t = 0; t < count; t++) {
        const tile *k = keys + (long)t * wide + h * width;
        vf s0 = {0}, s1 = {0};
        for (int f = 0; f < width; f++) s0 += q[f][0] * k[f][0], s1 += q[f][1] * k[f][1];
        p[t][0] = s0, p[t][1] = s1;
    }
    for (int u = 0; u < 2; u++) {
        vf top = p[0][u], sum = {0};
        for (int t = 1; t < count; t++) top = choose(p[t][u] > top, p[t][u], top);
        for (int t = 0; t < count; t++) sum += p[t][u] = vexp(p[t][u] - top);
        sum = 1.0f / sum;
        for (int t = 0; t < count; t++) p[t][u] *= sum;
    }
    memset(seen, 0, sizeof(tile) * width);
    for (int t = 0; t < count; t++) {
        const tile *value = keys + (long)t * wide + a->heads * width;
        for (int f = 0; f < width; f++)
            for (int u = 0; u < 2; u++) seen[f][u] += p[t][u] * value[f][u];
    }
}

INLINE void drop_some(tile *x, int features, const attention *a, int block, int d, int index) {
    const dropout drops = dropout_of(a->threshold, a->seed);
    const uint32_t step = (uint32_t)block * (a->steps - a->past) + d;
    const uint32_t first = (step * (a->heads + 1) + index) * MOST;
    for (int f = 0; a->threshold && f < features; f++) drop(x[f], drops, first + f);
}

INLINE void write_weights(const attention *a, int from, int rows, int d, int h, const tile *p, float *turned) {
    const int steps = a->steps, horizon = steps - a->past, count = seen_by(a, d);
    to_rows(turned, steps, p, count);
    for (int r = 0; r < rows; r++)
        memcpy(a->weights + (((long)(from + r) * horizon + d) * a->heads + h) * steps,
               turned + (long)r * steps, sizeof(float) * steps);
}

int attention_forward(const attention *a) {
    const int horizon = a->steps - a->past, all = a->heads * a->width, width = a->width;
    tile x[MOST], seen[MOST], mean[MOST];
    const long count = (long)horizon * all + (long)a->steps * (all + width + 1);
    tile *queries = zeros(sizeof(tile) * count + sizeof(float) * R * a->steps);
    if (!queries) return NO_MEMORY;
    tile *keys = queries + (long)horizon * all, *p = keys + (long)a->steps * (all + width);
    float *turned = (float *)(queries + count);
    for (int block = a->begin; block < a->end; block++) {
        const int from = block * R, rows = a->windows - from < R ? a->windows - from : R;
        project(a, from, rows, x, queries, keys);
        for (int d = 0; d < horizon; d++) {
            memset(mean, 0, sizeof(tile) * width);
            for (int h = 0; h < a->heads; h++) {
                look(a, d, h, queries + (long)d * all + h * width, keys, p, seen);
                if (a->weights) write_weights(a, from, rows, d, h, p, turned);
                drop_some(seen, width, a, block, d, h);
                for (int f = 0; f < width; f++)
                    for (int u = 0; u < 2; u++) mean[f][u] += seen[f][u] * (1.0f / a->heads);
            }
            linear(x, a->size, width, a->join, mean, 0);
            drop_some(x, a->size, a, block, d, a->heads);
            store(a->y + (long)d * a->windows * a->size, a->size, from, rows, x);
        }
    }
    free(queries);
    return DONE;
}

/* The way back through one head at one step: d_seen by what it saw. */
INLINE void look_back(const attention *a, int d, int h, const tile *q, const tile *keys, const tile *p,
                      const tile *d_seen, tile *dp, tile *dq, tile *d_keys) {
    const int width = a->width, wide = (a->heads + 1) * width, count = seen_by(a, d);
    tile along = {{0}};
    for (int t = 0; t < count; t++) {
        const tile *value = keys + (long)t * wide + a->heads * width;
        tile *d_value = d_keys + (long)t * wide + a->heads * width;
        for (int u = 0; u < 2; u++) {
            vf sum = {0};
            for (int f = 0; f < width; f++) {
                sum += d_seen[f][u] * value[f][u];
                d_value[f][u] += p[t][u] * d_seen[f][u];
            }
            dp[t][u] = sum;
            along[u] += sum * p[t][u];
        }
    }
    memset(dq, 0, sizeof(tile) * width);
    for (int t = 0; t < count; t++) {
        const tile *k = keys + (long)t * wide + h * width;
        tile *d_key = d_keys + (long)t * wide + h * width;
        for (int u = 0; u < 2; u++) {
            vf ds = p[t][u] * (dp[t][u] - along[u]);
            for (int f = 0; f < width; f++) {
                dq[f][u] += ds * k[f][u];
                d_key[f][u] += ds * q[f][u];
            }
        }
    }
}

typedef struct {
    float *query, *key, *join;
    vf query_bias[MOST], key_bias[2 * MOST];
} attention_sums;

/* From the derivatives by queries (scaled) and keys to those by x and the weights. */
INLINE void project_back(const attention *a, int from, int rows, tile *x, tile *d_queries,
                         const tile *d_keys, attention_sums *sums) {
    const int size = a->size, all = a->heads * a->width, wide = all + a->width;
    const float scale = 1.0f / sqrtf(a->width);
    float turned[R * MOST];
    tile dx[MOST];
    for (int t = 0; t < a->steps; t++) {
        const long step = (long)t * a->windows * size;
        load(x, size, a->x + step, from, rows, a->windows);
        to_rows(turned, padded(size), x, size);
        const tile *dk = d_keys + (long)t * wide;
        outer(sums->key, wide, padded(size), dk, turned);
        tally(sums->key_bias, wide, dk);
        linear_back(dx, size, wide, a->key, dk, 0);
        if (t >= a->past) {
            tile *dq = d_queries + (long)(t - a->past) * all;
            for (int f = 0; f < all; f++)
                for (int u = 0; u < 2; u++) dq[f][u] *= scale;
            outer(sums->query, all, padded(size), dq, turned);
            tally(sums->query_bias, all, dq);
            linear_back(dx, size, all, a->query, dq, 1);
        }
        store(a->dx + step, size, from, rows, dx);
    }
}

int attention_backward(const attention *a) {
    const int horizon = a->steps - a->past, size = a->size, width = a->width;
    const int all = a->heads * width, wide = all + width;
    tile x[MOST], d_out[MOST], seen[MOST], mean[MOST], d_mean[MOST], d_seen[MOST];
    float turned[R * MOST];
    const long count = 2L * horizon * all + (2L * wide + a->heads + 1) * a->steps;
    const size_t weights = (size_t)(all + wide) * padded(size) + (size_t)size * padded(width);
    tile *queries = zeros(sizeof(tile) * count + sizeof(float) * weights);
    if (!queries) return NO_MEMORY;
    tile *d_queries = queries + (long)horizon * all;
    tile *keys = d_queries + (long)horizon * all, *d_keys = keys + (long)a->steps * wide;
    tile *p = d_keys + (long)a->steps * wide, *dp = p + (long)a->heads * a->steps;
    attention_sums sums[1] = {0};
    sums->query = (float *)(queries + count);
    sums->key = sums->query + (size_t)all * padded(size);
    sums->join = sums->key + (size_t)wide * padded(size);
    for (int block = a->begin; block < a->end; block++) {
        const int from = block * R, rows = a->windows - from < R ? a->windows - from : R;
        project(a, from, rows, x, queries, keys);
        memset(d_keys, 0, sizeof(tile) * a->steps * wide);
        for (int d = 0; d < horizon; d++) {
            memset(mean, 0, sizeof(tile) * width);
            const tile *q = queries + (long)d * all;
            for (int h = 0; h < a->heads; h++) {
                look(a, d, h, q + h * width, keys, p + (long)h * a->steps, seen);
                drop_some(seen, width, a, block, d, h);
                for (int f = 0; f < width; f++)
                    for (int u = 0; u < 2; u++) mean[f][u] += seen[f][u] * (1.0f / a->heads);
            }
            load(d_out, size, a->dy + (long)d * a->windows * size, from, rows, a->windows);
            drop_some(d_out, size, a, block, d, a->heads);
            to_rows(turned, padded(width), mean, width);
            outer(sums->join, size, padded(width), d_out, turned);
            linear_back(d_mean, width, size, a->join, d_out, 0);
            for (int h = 0; h < a->heads; h++) {
                for (int f = 0; f < width; f++)
                    for (int u = 0; u < 2; u++) d_seen[f][u] = d_mean[f][u] * (1.0f / a->heads);
                drop_some(d_seen, width, a, block, d, h);
                look_back(a, d, h, q + h * width, keys, p + (long)h * a->steps, d_seen, dp,
                          d_queries + (long)d * all + h * width, d_keys);
            }
        }
        project_back(a, from, rows, x, d_queries, d_keys, sums);
    }
    write_weight(a->d_query, all, size, sums->query, padded(size));
    write_weight(a->d_key, wide, size, sums->key, padded(size));
    write_weight(a->d_join, size, width, sums->join, padded(width));
    write_sums(a->d_query_bias, sums->query_bias, all);
    write_sums(a->d_key_bias, sums->key_bias, wide);
    free(queries);
    return DONE;
}
