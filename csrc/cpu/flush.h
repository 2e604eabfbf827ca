// Numbers too small to be normal count as 0 while this lives, in this thread: the averages that an optimiser keeps for
// weights without a gradient shrink into them, and processors take many times as long for each.

#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pydyn {

class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | kFlushToZero | kDenormalsAreZero); }
  ~FlushDenormals() { _mm_setcsr(before_); }

 private:
  static constexpr unsigned int kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
  unsigned int before_;
#endif
};

}  // namespace pydyn
