/* Counts what CPython asks its allocators for, by hooks around those that are there.

   Compiled by memory.py with any C compiler; needs no header of Python. The struct is
   PyMemAllocatorEx of the C API; memory.py installs it with PyMem_SetAllocator. CPython calls it
   with the GIL held, so plain counters are exact. */

#include <stddef.h>

struct allocator {
    void *context;
    void *(*malloc)(void *context, size_t size);
    void *(*calloc)(void *context, size_t count, size_t size);
    void *(*realloc)(void *context, void *block, size_t size);
    void (*free)(void *context, void *block);
};

unsigned long long allocations = 0;

static void *count_malloc(void *inner, size_t size) {
    struct allocator *next = inner;
    allocations++;
    return next->malloc(next->context, size);
}

static void *count_calloc(void *inner, size_t count, size_t size) {
    struct allocator *next = inner;
    allocations++;
    return next->calloc(next->context, count, size);
}

static void *count_realloc(void *inner, void *block, size_t size) {
    struct allocator *next = inner;
    allocations++;
    return next->realloc(next->context, block, size);
}

static void count_free(void *inner, void *block) {
    struct allocator *next = inner;
    next->free(next->context, block);
}

/* Makes in *hook* an allocator that counts and hands on to *inner*. Both must live on. */
void count_through(struct allocator *hook, struct allocator *inner) {
    *hook = (struct allocator){inner, count_malloc, count_calloc, count_realloc, count_free};
}
