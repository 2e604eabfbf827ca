// One pooling window for some of the sixteen lanes: kernels take as many at a time as a register holds. Its convolution
// by a filter of the first layer, and the pooling of both layers.

#pragma once

#include "tiny_cnn.h"

namespace pydyn {

template <int64_t kFloats>
using Number = Vector<float, kFloats>;
template <int64_t kFloats>
using Codes = Vector<int32_t, kFloats>;

// The four pixels of a pooling window.
template <int64_t kFloats>
using Window = Number<kFloats>[4];

// The pixels that a window's convolutions look at, and sums of products of them, both as a transform of each row:
// Winograd's F(2, 3) takes four products for the three taps of two neighbours instead of six. A row of equal pixels
// gives equal neighbours, to the last bit, as without the transform.
template <int64_t kFloats>
using Patch = Number<kFloats>[4][4];
template <int64_t kFloats>
using Sums = Number<kFloats>[2][4];

template <int64_t kFloats>
PYDYN_INLINE void read_patch(const float* from, int64_t column_stride, int64_t row_stride, Patch<kFloats>& patch) {
  using Pixel = Number<kFloats>;
#pragma GCC unroll 4
  for (int64_t y = 0; y < 4; ++y) {
    const float* row = from + y * row_stride * kLanes;
    const Pixel first = read<Pixel>(row), second = read<Pixel>(row + column_stride * kLanes);
    const Pixel third = read<Pixel>(row + 2 * column_stride * kLanes);
    const Pixel fourth = read<Pixel>(row + 3 * column_stride * kLanes);
    patch[y][0] = first - third;
    patch[y][1] = second + third;
    patch[y][2] = third - second;
    patch[y][3] = second - fourth;
  }
}

template <int64_t kFloats>
PYDYN_INLINE void start(float bias, Sums<kFloats>& sums) {
#pragma GCC unroll 2
  for (int64_t row = 0; row < 2; ++row) {
    sums[row][0] = sums[row][2] = sums[row][3] = Number<kFloats>{};
    sums[row][1] = all<kFloats>(bias);
  }
}

template <int64_t kFloats>
PYDYN_INLINE void convolve(const Patch<kFloats>& patch, const float* filter, Sums<kFloats>& sums) {
#pragma GCC unroll 3
  for (int64_t tap = 0; tap < 3; ++tap)
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) {
      const Number<kFloats> weight = all<kFloats>(filter[4 * tap + i]);
      sums[0][i] += weight * patch[tap][i];
      sums[1][i] += weight * patch[tap + 1][i];
    }
}

template <int64_t kFloats>
PYDYN_INLINE void finish(const Sums<kFloats>& sums, Window<kFloats>& window) {
#pragma GCC unroll 2
  for (int64_t row = 0; row < 2; ++row) {
    window[2 * row] = sums[row][0] + sums[row][1] + sums[row][2];
    window[2 * row + 1] = sums[row][1] - sums[row][2] - sums[row][3];
  }
}

template <typename Number>
PYDYN_INLINE Number larger(const Number& later, const Number& earlier) {
  return later > earlier ? later : earlier;
}

// ReLU and pooling. A filter of NaN gives NaN, so that a diverged training shows.
template <int64_t kFloats>
PYDYN_INLINE Number<kFloats> best_of(const Window<kFloats>& window) {
  return larger(Number<kFloats>{}, larger(larger(window[3], window[2]), larger(window[1], window[0])));
}

template <int64_t kFloats>
PYDYN_INLINE void note_winner(const Window<kFloats>& window, const Number<kFloats>& best, uint8_t* winner) {
  // Each comparison serves one choice: compilers take one that serves two apart, lane by lane.
  const Codes<kFloats> none{};
  Codes<kFloats> code = none + 3;
  code = window[2] == best ? none + 2 : code;
  code = window[1] == best ? none + 1 : code;
  code = window[0] == best ? none : code;
  code = best > Number<kFloats>{} ? code : none + int32_t{kNoWinner};
  write(__builtin_convertvector(code, Vector<uint8_t, kFloats>), winner);
}

}  // namespace pydyn
