/* The kernels as a program of units: reads two bytes, which kernel and how often, and writes the last result.
 *
 * Without a C library's start, so that it asks for reading and writing alone and any host can run it. */

#include "kernels.c"

typedef struct {
    void *bytes;
    unsigned long size;
} part;

#define HOST(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))
HOST(fd_read) int fd_read(int file, const part *parts, unsigned long count, unsigned long *done);
HOST(fd_write) int fd_write(int file, const part *parts, unsigned long count, unsigned long *done);
HOST(proc_exit) _Noreturn void proc_exit(int status);

static double (*const all[])(void) = {
    matmul_scalar, matmul_simd, mandelbrot, sha256, quicksort, fib, path_tracer,
};

__attribute__((export_name("_start"))) void _start(void)
{
    uint8_t wanted[2] = {0, 0};
    double result = 0;
    unsigned long done = 0;
    part in = {wanted, sizeof wanted}, out = {&result, sizeof result};
    if (fd_read(0, &in, 1, &done) || done != sizeof wanted || wanted[0] >= sizeof all / sizeof *all)
        proc_exit(1);
    for (int run = 0; run < wanted[1]; run++)
        result = all[wanted[0]]();
    if (fd_write(1, &out, 1, &done) || done != sizeof result)
        proc_exit(1);
}
