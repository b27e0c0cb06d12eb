/* Vectors, and functions that are compiled once for every kind of processor. */

#ifndef CHAINRULE_PROCESSORS_H
#define CHAINRULE_PROCESSORS_H

#include <stdint.h>

/* Functions that take or return vectors are always inlined, so how a processor without the registers would pass them
   does not matter. */
#pragma GCC diagnostic ignored "-Wpsabi"

typedef float floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef double doubles __attribute__((vector_size(64), aligned(8), may_alias));
typedef float halves __attribute__((vector_size(32), aligned(4), may_alias)); /* as many floats as doubles */
typedef float quarters __attribute__((vector_size(16), aligned(4), may_alias));
typedef float pairs __attribute__((vector_size(8), aligned(4), may_alias));
typedef double double_halves __attribute__((vector_size(32), aligned(8), may_alias));
typedef double double_quarters __attribute__((vector_size(16), aligned(8), may_alias));
#define FLOATS 16
#define DOUBLES 8

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

/* FOR_EVERY_PROCESSOR(name, (parameters), (arguments)) { body } compiles the body for what every processor of the family
   has and, on x86, for the wider registers that most have; a call takes what the processor at hand can do. Within the
   body, `tile` is how many images' sums its registers hold in a walk, and tells which processor it is. Compilers keep
   vectors in registers only if these are as wide: floats with AVX-512, `halves` where HALVES(tile), else `quarters`.
   BY_WIDTH(f, …) calls f_floats, f_halves or f_quarters. */
#define LIST(...) __VA_ARGS__
#define AVX512_TILE 12
#define AVX2_TILE 6
#ifdef __x86_64__
#define HALVES(TILE) ((TILE) == AVX2_TILE)
#else
#define HALVES(TILE) 0
#endif
#define BY_WIDTH(WHAT, ...)                                                                                            \
    do {                                                                                                               \
        if (tile == AVX512_TILE)                                                                                       \
            WHAT##_floats(__VA_ARGS__);                                                                                \
        else if (HALVES(tile))                                                                                         \
            WHAT##_halves(__VA_ARGS__);                                                                                \
        else                                                                                                           \
            WHAT##_quarters(__VA_ARGS__);                                                                              \
    } while (0)
/* What a function begins with that is compiled for one kind of processor, or for whatever the family has; kept by itself,
   since one large function runs out of registers. */
#define ANY __attribute__((noinline, unused))
extern int chainrule_widest; /* registers that may be used: 0 none beyond the family's, 1 AVX2, 2 all */
#if defined(__x86_64__) && defined(__GNUC__)
#define AVX2 __attribute__((noinline, unused, target("avx2,fma")))
#define AVX512 __attribute__((noinline, unused, target("avx512f,avx512dq,avx512bw,avx512vl,fma")))
#define FOR_EVERY_PROCESSOR(NAME, PARAMETERS, ARGUMENTS)                                                               \
    INLINE void NAME##_body(const int tile, LIST PARAMETERS);                                                          \
    AVX512 static void NAME##_avx512 PARAMETERS { NAME##_body(AVX512_TILE, LIST ARGUMENTS); }                          \
    AVX2 static void NAME##_avx2 PARAMETERS { NAME##_body(AVX2_TILE, LIST ARGUMENTS); }                                \
    __attribute__((noinline)) static void NAME##_base PARAMETERS { NAME##_body(3, LIST ARGUMENTS); }                   \
    __attribute__((noinline)) static void NAME PARAMETERS {                                                            \
        if (chainrule_widest > 1 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&         \
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))                                  \
            NAME##_avx512 ARGUMENTS;                                                                                   \
        else if (chainrule_widest > 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))              \
            NAME##_avx2 ARGUMENTS;                                                                                     \
        else                                                                                                           \
            NAME##_base ARGUMENTS;                                                                                     \
    }                                                                                                                  \
    INLINE void NAME##_body(const int tile, LIST PARAMETERS)
#else
#define AVX2 ANY
#define AVX512 ANY
#ifdef __wasm__
#define ONLY_TILE 3 /* a browser is most often on x86, which has 16 registers for it */
#else
#define ONLY_TILE 6
#endif
#define FOR_EVERY_PROCESSOR(NAME, PARAMETERS, ARGUMENTS)                                                               \
    INLINE void NAME##_body(const int tile, LIST PARAMETERS);                                                          \
    __attribute__((noinline)) static void NAME PARAMETERS { NAME##_body(ONLY_TILE, LIST ARGUMENTS); }                          \
    INLINE void NAME##_body(const int tile, LIST PARAMETERS)
#endif

#endif
