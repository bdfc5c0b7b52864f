/* Tiles: R rows at a time, feature by feature, so that every operation of the network is a vector operation
 * over rows: no horizontal sums, no strides, and all that lies between two matrix products stays in the
 * cache. A tile of F features is `vf [F][2]`: F times R = 2 W numbers. Rows past the end are zero.
 * GNU C vectors, which GCC and clang turn into whatever the processor has.
 */
#ifndef TILE_H
#define TILE_H
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__
#define W 16
#else
#define W 8
#endif
#define R (2 * W)
#define MOST 128 /* features of an activation; LIMIT in network.py */
#define EPSILON 1e-5f
#define INLINE static inline __attribute__((always_inline))

/* What a kernel returns. */
enum { DONE, NO_MEMORY };

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
/* As they lie in a matrix, on no border. */
typedef float anywhere __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef vf tile[2];

INLINE int padded(int n) { return (n + W - 1) / W * W; }

INLINE vf choose(vi mask, vf yes, vf no) { return (vf)(((vi)yes & mask) | ((vi)no & ~mask)); }

INLINE vf vexp(vf x) {
    const vf zero = {0}, magic = zero + 12582912.0f;
    x = choose(x > 88.0f, zero + 88.0f, x);
    x = choose(x < -87.0f, zero - 87.0f, x);
    vf whole = x * 1.44269504089f + magic;
    vi power = (vi)whole - (vi)magic;
    whole -= magic;
    vf r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (vf)((power + 127) << 23);
}

INLINE vf sigmoid(vf x) { return 1.0f / (1.0f + vexp(-x)); }

INLINE vf vtanh(vf x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

INLINE vf inverse_root(vf x) {
    vf found;
    for (int lane = 0; lane < W; lane++) found[lane] = 1.0f / sqrtf(x[lane]);
    return found;
}

INLINE float total(vf x) {
    float sum = 0.0f;
    for (int lane = 0; lane < W; lane++) sum += x[lane];
    return sum;
}

/* Dropout: 16 bits of a hash of (seed, counter, lane) an element, the same again whenever asked for. */
typedef struct {
    uint32_t threshold; /* of 65,536; 0 is no dropout */
    uint32_t low, high; /* seed */
    float scale;
} dropout;

INLINE dropout dropout_of(int threshold, int64_t seed) {
    dropout d = {(uint32_t)threshold, (uint32_t)seed, (uint32_t)(seed >> 32), 65536.0f / (65536 - threshold)};
    return d;
}

INLINE void drop(tile x, dropout d, uint32_t counter) {
    vu h;
    for (int lane = 0; lane < W; lane++) h[lane] = counter * W + lane;
    h = h * 0x9e3779b1u + d.low;
    h ^= h >> 16;
    h *= 0x7feb352du;
    h ^= h >> 15;
    h += d.high;
    h *= 0x846ca68bu;
    h ^= h >> 16;
    x[0] = (vf)((vi)(x[0] * d.scale) & (vi)((h & 0xffffu) >= d.threshold));
    x[1] = (vf)((vi)(x[1] * d.scale) & (vi)((h >> 16) >= d.threshold));
}

/* out[j] = start + sum over i of w[j * by_j + i * by_i] in[i]; the start is a bias, or what is there. */
INLINE void product(tile *out, int m, int k, const float *w, int by_j, int by_i, const tile *in,
                    const float *bias, int add) {
    const vf zero = {0};
    int j = 0;
    for (; j + 4 <= m; j += 4) {
        vf a[4][2];
        for (int q = 0; q < 4; q++)
            for (int u = 0; u < 2; u++) a[q][u] = add ? out[j + q][u] : zero + (bias ? bias[j + q] : 0.0f);
        const float *p = w + (long)j * by_j;
        for (int i = 0; i < k; i++, p += by_i) {
            vf x0 = in[i][0], x1 = in[i][1];
            a[0][0] += p[0] * x0, a[0][1] += p[0] * x1;
            a[1][0] += p[by_j] * x0, a[1][1] += p[by_j] * x1;
            a[2][0] += p[2 * by_j] * x0, a[2][1] += p[2 * by_j] * x1;
            a[3][0] += p[3 * by_j] * x0, a[3][1] += p[3 * by_j] * x1;
        }
        for (int q = 0; q < 4; q++)
            for (int u = 0; u < 2; u++) out[j + q][u] = a[q][u];
    }
    for (; j < m; j++) {
        vf a0 = add ? out[j][0] : zero + (bias ? bias[j] : 0.0f), a1 = add ? out[j][1] : a0;
        const float *p = w + (long)j * by_j;
        for (int i = 0; i < k; i++, p += by_i) a0 += *p * in[i][0], a1 += *p * in[i][1];
        out[j][0] = a0, out[j][1] = a1;
    }
}

INLINE void linear(tile *out, int m, int k, const float *w, const tile *in, const float *bias) {
    product(out, m, k, w, k, 1, in, bias, 0);
}

/* The derivative by the input of a linear layer of weight (k, m). */
INLINE void linear_back(tile *out, int m, int k, const float *w, const tile *in, int add) {
    product(out, m, k, w, 1, m, in, 0, add);
}

/* dw (m, width) += sum over the rows of dy[j] times the rows (R, width); width a multiple of W. */
INLINE void outer(float *dw, int m, int width, const tile *dy, const float *rows) {
    for (int i = 0; i < width; i += 2 * W) {
        const int two = i + W < width;
        int j = 0;
        for (; two && j + 4 <= m; j += 4) {
            anywhere *t0 = (anywhere *)(dw + (long)j * width + i), *t1 = (anywhere *)((float *)t0 + width);
            anywhere *t2 = (anywhere *)((float *)t1 + width), *t3 = (anywhere *)((float *)t2 + width);
            vf a00 = t0[0], a01 = t0[1], a10 = t1[0], a11 = t1[1];
            vf a20 = t2[0], a21 = t2[1], a30 = t3[0], a31 = t3[1];
            const float *d = (const float *)dy[j], *row = rows + i;
            for (int r = 0; r < R; r++, row += width) {
                vf x0 = ((const anywhere *)row)[0], x1 = ((const anywhere *)row)[1];
                a00 += d[r] * x0, a01 += d[r] * x1;
                a10 += d[R + r] * x0, a11 += d[R + r] * x1;
                a20 += d[2 * R + r] * x0, a21 += d[2 * R + r] * x1;
                a30 += d[3 * R + r] * x0, a31 += d[3 * R + r] * x1;
            }
            t0[0] = a00, t0[1] = a01, t1[0] = a10, t1[1] = a11;
            t2[0] = a20, t2[1] = a21, t3[0] = a30, t3[1] = a31;
        }
        for (; j < m; j++)
            for (int v = 0; v <= two; v++) {
                anywhere *to = (anywhere *)(dw + (long)j * width + i) + v;
                const float *d = (const float *)dy[j], *row = rows + i + v * W;
                vf a = *to;
                for (int r = 0; r < R; r++, row += width) a += d[r] * *(const anywhere *)row;
                *to = a;
            }
    }
}

/* 8 rows of 8 numbers, transposed. */
INLINE void turn(v8 x[8]) {
    v8 a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = __builtin_shufflevector(x[i], x[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        a[i + 1] = __builtin_shufflevector(x[i], x[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int u = 0; u < 2; u++) {
            b[i + u] = __builtin_shufflevector(a[i + u], a[i + u + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            b[i + u + 2] = __builtin_shufflevector(a[i + u], a[i + u + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; i++) {
        x[i] = __builtin_shufflevector(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        x[i + 4] = __builtin_shufflevector(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* Rows `from` to `from + rows` of a matrix of `features` columns, each row taken modulo `cycle`. */
INLINE void load(tile *out, int features, const float *matrix, int from, int rows, int cycle) {
    const float *at[R];
    for (int r = 0; r < R; r++) at[r] = matrix + (long)((from + (r < rows ? r : 0)) % cycle) * features;
    float *to = (float *)out;
    int f = 0;
    for (; f + 8 <= features; f += 8)
        for (int r = 0; r < R; r += 8) {
            v8 x[8];
            for (int q = 0; q < 8; q++) x[q] = *(const v8 *)(at[r + q] + f);
            turn(x);
            for (int q = 0; q < 8; q++) *(v8 *)(to + (f + q) * R + r) = x[q];
        }
    for (; f < features; f++)
        for (int r = 0; r < R; r++) to[f * R + r] = at[r][f];
    for (int g = 0; rows < R && g < features; g++)
        for (int r = rows; r < R; r++) to[g * R + r] = 0.0f;
}

/* A tile as rows (R, width), width >= features; the columns beyond are zero. */
INLINE void to_rows(float *rows, int width, const tile *in, int features) {
    const float *from = (const float *)in;
    int f = 0;
    for (; f + 8 <= features; f += 8)
        for (int r = 0; r < R; r += 8) {
            v8 x[8];
            for (int q = 0; q < 8; q++) x[q] = *(const v8 *)(from + (f + q) * R + r);
            turn(x);
            for (int q = 0; q < 8; q++) *(v8 *)(rows + (long)(r + q) * width + f) = x[q];
        }
    for (; f < width; f++)
        for (int r = 0; r < R; r++) rows[(long)r * width + f] = f < features ? from[f * R + r] : 0.0f;
}

INLINE void store(float *matrix, int features, int from, int rows, const tile *in) {
    if (rows == R) {
        to_rows(matrix + (long)from * features, features, in, features);
        return;
    }
    for (int f = 0; f < features; f++)
        for (int r = 0; r < rows; r++) matrix[(long)(from + r) * features + f] = ((const float *)in[f])[r];
}

/* matrix row += the tile's, the rows taken modulo `cycle`. */
INLINE void add_rows(float *matrix, int features, int from, int rows, int cycle, const tile *in) {
    float turned[R * MOST];
    to_rows(turned, features, in, features);
    for (int r = 0; r < rows; r++) {
        float *to = matrix + (long)((from + r) % cycle) * features;
        for (int f = 0; f < features; f++) to[f] += turned[r * features + f];
    }
}

/* Columns `from` on of a row of numbers, one feature. */
INLINE void load_line(tile out, const float *line, int from, int rows) {
    float *to = (float *)out;
    for (int r = 0; r < R; r++) to[r] = r < rows ? line[from + r] : 0.0f;
}

/* Sums over rows, kept as vectors until the end. */
INLINE void tally(vf *sums, int features, const tile *in) {
    for (int f = 0; f < features; f++) sums[f] += in[f][0] + in[f][1];
}

INLINE void write_sums(float *out, const vf *sums, int features) {
    for (int f = 0; f < features; f++) out[f] += total(sums[f]);
}

INLINE void write_weight(float *out, int m, int k, const float *dw, int width) {
    for (int j = 0; j < m; j++)
        for (int i = 0; i < k; i++) out[(long)j * k + i] += dw[(long)j * width + i];
}

/* NULL where memory does not suffice. */
INLINE void *zeros(size_t size) {
    void *found = aligned_alloc(64, (size + 63) / 64 * 64);
    if (found) memset(found, 0, size);
    return found;
}
#endif
