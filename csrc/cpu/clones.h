// Functions compiled for several generations of x86 in one file, the best of which is chosen at run time: the package
// needs no -march=native and runs on any CPU. All that they call is inlined into them. Other compilers and processors
// get the baseline, which on arm64 has vectors as well.

#pragma once

#include <cstdint>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define PYDYN_GENERATIONS 1
// The same source for all.
#define PYDYN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), flatten))
#else
#define PYDYN_GENERATIONS 0
#define PYDYN_CLONES
#endif

namespace pydyn {

// How many floats a vector register of this processor holds: 16, 8 or 4.
inline int64_t native_floats() {
#if PYDYN_GENERATIONS
  static const int64_t count = __builtin_cpu_supports("x86-64-v4") ? 16 : __builtin_cpu_supports("x86-64-v3") ? 8 : 4;
  return count;
#else
  return 4;
#endif
}

// Calls Kernel::run<kFloats>(arguments...), which must be inline, with vectors of as many floats as a register holds:
// compilers keep wider ones in memory.
template <typename Kernel, typename... Arguments>
struct Widest {
#if PYDYN_GENERATIONS
  __attribute__((target("arch=x86-64-v4"), flatten)) static void run_16(const Arguments&... arguments) {
    Kernel::template run<16>(arguments...);
  }
  __attribute__((target("arch=x86-64-v3"), flatten)) static void run_8(const Arguments&... arguments) {
    Kernel::template run<8>(arguments...);
  }
#endif
  __attribute__((flatten)) static void run_4(const Arguments&... arguments) { Kernel::template run<4>(arguments...); }
};

template <typename Kernel, typename... Arguments>
void run_widest(const Arguments&... arguments) {
#if PYDYN_GENERATIONS
  if (native_floats() == 16) return Widest<Kernel, Arguments...>::run_16(arguments...);
  if (native_floats() == 8) return Widest<Kernel, Arguments...>::run_8(arguments...);
#endif
  Widest<Kernel, Arguments...>::run_4(arguments...);
}

}  // namespace pydyn
