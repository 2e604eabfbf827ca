// A function compiled for several generations of x86 in one file, the best of which is chosen when the module is
// loaded: the package needs no -march=native and runs on any CPU. All it calls is inlined into it. Other compilers and
// processors get the baseline, which on arm64 has vectors as well.

#pragma once

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define PYDYN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), flatten))
#else
#define PYDYN_CLONES
#endif
