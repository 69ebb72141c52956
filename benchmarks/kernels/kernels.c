/* Kernels whose speed is compared: plain WebAssembly, under each rule of the sandbox, and native.
 *
 * Each takes nothing and returns a number that depends on everything it computed; it must be the same everywhere. Built by
 * benchmarks/kernels/build.py for WebAssembly, and by the benchmark itself for this processor. */

#include <stdint.h>

#ifdef __wasm__
#define KERNEL(name) __attribute__((export_name(#name), noinline)) double name(void)
#else
#define KERNEL(name) __attribute__((noinline)) double name(void)
#endif

/* ------------------------------------------------------------------ dense matrices */

enum { SCALAR = 200, VECTOR = 256 };

static double a8[SCALAR][SCALAR], b8[SCALAR][SCALAR], c8[SCALAR][SCALAR];

KERNEL(matmul_scalar)
{
    for (int i = 0; i < SCALAR; i++)
        for (int j = 0; j < SCALAR; j++) {
            a8[i][j] = i * 0.5 + j;
            b8[i][j] = i - j * 0.25;
        }
    for (int round = 0; round < 6; round++)
        for (int i = 0; i < SCALAR; i++)
            for (int j = 0; j < SCALAR; j++) {
                double sum = 0;
                for (int k = 0; k < SCALAR; k++)
                    sum += a8[i][k] * b8[k][j];
                c8[i][j] = sum + round;
            }
    return c8[17][33];
}

typedef float vector __attribute__((vector_size(16)));

static float a4[VECTOR][VECTOR] __attribute__((aligned(16)));
static float b4[VECTOR][VECTOR] __attribute__((aligned(16)));
static float c4[VECTOR][VECTOR] __attribute__((aligned(16)));

KERNEL(matmul_simd)
{
    for (int i = 0; i < VECTOR; i++)
        for (int j = 0; j < VECTOR; j++) {
            a4[i][j] = i * 0.5f + j;
            b4[i][j] = i - j * 0.25f;
        }
    for (int round = 0; round < 12; round++)
        for (int i = 0; i < VECTOR; i++)
            for (int j = 0; j < VECTOR; j += 4) {
                vector sum = {round, 0, 0, 0};
                for (int k = 0; k < VECTOR; k++) {
                    float a = a4[i][k];
                    sum += *(vector *)&b4[k][j] * (vector){a, a, a, a};
                }
                *(vector *)&c4[i][j] = sum;
            }
    return c4[3][4] + c4[200][77];
}

/* ------------------------------------------------------------------ Mandelbrot */

KERNEL(mandelbrot)
{
    int total = 0;
    for (int y = 0; y < 300; y++)
        for (int x = 0; x < 400; x++) {
            double cr = x / 200.0 - 1.5, ci = y / 150.0 - 1, zr = 0, zi = 0;
            int steps = 0;
            for (; steps < 300; steps++) {
                double rr = zr * zr, ii = zi * zi;
                if (rr + ii > 4)
                    break;
                zi = 2 * zr * zi + ci;
                zr = rr - ii + cr;
            }
            total += steps;
        }
    return total;
}

/* ------------------------------------------------------------------ SHA-256 */

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint8_t message[1 << 16];

static uint32_t rotate(uint32_t x, int by)
{
    return x >> by | x << (32 - by);
}

static uint32_t word(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

/* One round. The variables change their roles from call to call, so that none of them has to move. */
#define ROUND(a, b, c, d, e, f, g, h, i)                                                                                 \
    do {                                                                                                                 \
        uint32_t t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + constants[i] + w[i];   \
        d += t1;                                                                                                         \
        h = t1 + (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));                         \
    } while (0)

static void compress(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64];
    for (int i = 0; i < 16; i++)
        w[i] = word(block + 4 * i);
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i += 8) {
        ROUND(a, b, c, d, e, f, g, h, i);
        ROUND(h, a, b, c, d, e, f, g, i + 1);
        ROUND(g, h, a, b, c, d, e, f, i + 2);
        ROUND(f, g, h, a, b, c, d, e, i + 3);
        ROUND(e, f, g, h, a, b, c, d, i + 4);
        ROUND(d, e, f, g, h, a, b, c, i + 5);
        ROUND(c, d, e, f, g, h, a, b, i + 6);
        ROUND(b, c, d, e, f, g, h, a, i + 7);
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

KERNEL(sha256)
{
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    for (int round = 0; round < 160; round++)
        for (unsigned at = 0; at < sizeof message; at += 64)
            compress(state, message + at);
    return state[0];
}

/* ------------------------------------------------------------------ quicksort */

enum { ITEMS = 1000000 };

static int32_t items[ITEMS];

static void sort(int32_t *item, int low, int high)
{
    while (low < high) {
        int i = low, j = high;
        int32_t pivot = item[low + (high - low) / 2];
        while (i <= j) {
            while (item[i] < pivot)
                i++;
            while (item[j] > pivot)
                j--;
            if (i <= j) {
                int32_t held = item[i];
                item[i++] = item[j];
                item[j--] = held;
            }
        }
        if (j - low < high - i) {
            sort(item, low, j);
            low = i;
        } else {
            sort(item, i, high);
            high = j;
        }
    }
}

KERNEL(quicksort)
{
    uint32_t x = 1;
    for (int i = 0; i < ITEMS; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        items[i] = (int32_t)x;
    }
    sort(items, 0, ITEMS - 1);
    return items[ITEMS / 2];
}

/* ------------------------------------------------------------------ calls */

__attribute__((noinline)) static int fibonacci(int n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

KERNEL(fib)
{
    return fibonacci(32);
}

/* ------------------------------------------------------------------ path tracer */

typedef struct {
    double x, y, z;
} point;

static point add(point a, point b)
{
    return (point){a.x + b.x, a.y + b.y, a.z + b.z};
}

static point scale(point a, double by)
{
    return (point){a.x * by, a.y * by, a.z * by};
}

static double dot(point a, point b)
{
    return a.x * b.x + a.y * b.y + a.z * b.z;
}

static uint64_t seed;

static double chance(void)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (seed >> 11) * (1.0 / 9007199254740992.0);
}

enum { SPHERES = 8 };

static point spheres[SPHERES];

static point trace(point from, point way, int depth)
{
    double nearest = 1e9;
    int hit = -1;
    for (int i = 0; i < SPHERES; i++) {
        point to = add(from, scale(spheres[i], -1));
        double b = dot(to, way), c = dot(to, to) - 1, square = b * b - c;
        if (square > 0) {
            double distance = -b - __builtin_sqrt(square);
            if (distance > 1e-4 && distance < nearest) {
                nearest = distance;
                hit = i;
            }
        }
    }
    if (hit < 0)
        return (point){0.5 + way.y * 0.5, 0.7, 1};
    if (depth > 4)
        return (point){0, 0, 0};
    point at = add(from, scale(way, nearest));
    point normal = add(at, scale(spheres[hit], -1));
    point off = add(normal, (point){chance() * 2 - 1, chance() * 2 - 1, chance() * 2 - 1});
    double length = __builtin_sqrt(dot(off, off) + 1e-9);
    return scale(trace(at, scale(off, 1 / length), depth + 1), 0.7);
}

KERNEL(path_tracer)
{
    seed = 88172645463325252u;
    for (int i = 0; i < SPHERES; i++)
        spheres[i] = (point){i * 1.1 - 4, i % 3 * 0.8 - 1, 4 + i % 2};
    double sum = 0;
    for (int y = 0; y < 150; y++)
        for (int x = 0; x < 200; x++)
            for (int sample = 0; sample < 8; sample++) {
                point way = {x / 100.0 - 1 + chance() * .01, y / 75.0 - 1, 1.5};
                sum += trace((point){0, 0, 0}, scale(way, 1 / __builtin_sqrt(dot(way, way))), 0).x;
            }
    return sum;
}

/* ------------------------------------------------------------------ native: the least processor time of some runs, in nanoseconds */

#ifndef __wasm__
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const struct {
    const char *name;
    double (*run)(void);
} kernels[] = {
    {"matmul_scalar", matmul_scalar}, {"matmul_simd", matmul_simd}, {"mandelbrot", mandelbrot}, {"sha256", sha256},
    {"quicksort", quicksort},         {"fib", fib},                 {"path_tracer", path_tracer},
};

int main(int count, char **arguments)
{
    int runs = count > 1 ? atoi(arguments[1]) : 1;
    for (unsigned kernel = 0; kernel < sizeof kernels / sizeof *kernels; kernel++) {
        double best = 1e18, result = 0;
        for (int run = 0; run < runs; run++) {
            struct timespec start, end;
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
            result = kernels[kernel].run();
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
            double spent = (end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec);
            best = spent < best ? spent : best;
        }
        printf("%s %.0f %.17g\n", kernels[kernel].name, best, result);
    }
    return 0;
}
#endif
