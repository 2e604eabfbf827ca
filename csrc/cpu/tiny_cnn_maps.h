// The second layer's convolution of one pooling window, for some of the sixteen lanes: of all maps and filters at once,
// as sixteen products of small matrices. By Winograd's F(2 x 2, 3 x 3) (Lavin and Gray, 2016, section 4.1) the sixteen
// pixels that a window looks at are transformed, once for all filters, and a map takes sixteen products instead of 36.

#pragma once

#include <type_traits>

#include "tiny_cnn_window.h"

namespace pydyn {

// Of the transform back, the point that all four pixels get alike: a bias belongs there.
constexpr int64_t kBiasPoint = 5;

// The transformed pixels of maps [first, end), (n, 16); `corner` is the window's in map 0. Columns are transformed as
// rows are (tiny_cnn_window.h): neighbours of equal pixels come out equal, to the last bit, beside and below each
// other.
template <int64_t kFloats>
PYDYN_INLINE void transform_maps(const Geometry& geometry, const float* corner, int64_t first, int64_t end,
                                 float* points) {
  for (int64_t map = first; map < end; ++map, points += kPoints * kFloats) {
    const int64_t plane = map >> geometry.width_bits, channel = map & (geometry.width - 1);
    Patch<kFloats> patch;
    read_patch<kFloats>(corner + (plane * geometry.map_pixels * geometry.width + channel) * kLanes, geometry.width,
                        geometry.map_columns * geometry.width, patch);
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) {
      write(patch[0][i] - patch[2][i], points + i * kFloats);
      write(patch[1][i] + patch[2][i], points + (4 + i) * kFloats);
      write(patch[2][i] - patch[1][i], points + (8 + i) * kFloats);
      write(patch[1][i] - patch[3][i], points + (12 + i) * kFloats);
    }
  }
}

// Of some filters, the sums `before` and the products of maps [first, end); `afresh`: they begin with the bias, and
// nothing is read there. Both may be one place.
template <int64_t kFloats, int64_t kFilters>
PYDYN_INLINE void add_block(const TinyCNN& network, const float* weights, const float* bias, const float* points,
                            int64_t first, int64_t end, bool afresh, const float* before, float* sums) {
  constexpr int64_t kRow = kPoints * kFloats;
  const int64_t next_map = network.filters[1];
  for (int64_t point = 0; point < kPoints; ++point, points += kFloats, before += kFloats, sums += kFloats) {
    Number<kFloats> totals[kFilters];
    if (afresh) {
#pragma GCC unroll 16
      for (int64_t f = 0; f < kFilters; ++f) totals[f] = all<kFloats>(point == kBiasPoint ? bias[f] : 0.0f);
    } else {
#pragma GCC unroll 16
      for (int64_t f = 0; f < kFilters; ++f) totals[f] = read<Number<kFloats>>(before + f * kRow);
    }
    const float* weight = weights + (point * network.filters[0] + first) * next_map;
    const float* from = points;
    for (int64_t map = first; map < end; ++map, weight += next_map, from += kRow) {
      const auto pixel = read<Number<kFloats>>(from);
#pragma GCC unroll 16
      for (int64_t f = 0; f < kFilters; ++f) totals[f] += all<kFloats>(weight[f]) * pixel;
    }
#pragma GCC unroll 16
    for (int64_t f = 0; f < kFilters; ++f) write(totals[f], sums + f * kRow);
  }
}

// The same for any number of filters: sums are (n, 16), `weights` those of Filters::second, and `bias`, from the first
// of them on; `points` from map `first` on. As many filters at a time as registers hold.
template <int64_t kFloats>
PYDYN_INLINE void add_products(const TinyCNN& network, const float* weights, const float* bias, const float* points,
                               int64_t first, int64_t end, bool afresh, int64_t n_filters, const float* before,
                               float* sums) {
  constexpr int64_t kRow = kPoints * kFloats;
  const auto add = [&](auto block, int64_t filter) {
    add_block<kFloats, block.value>(network, weights + filter, bias + filter, points, first, end, afresh,
                                    before + filter * kRow, sums + filter * kRow);
    return filter + block.value;
  };
  int64_t filter = 0;
  if constexpr (kFloats == kLanes)
    while (filter + 16 <= n_filters) filter = add(std::integral_constant<int64_t, 16>{}, filter);
  while (filter + 8 <= n_filters) filter = add(std::integral_constant<int64_t, 8>{}, filter);
  if (filter + 4 <= n_filters) filter = add(std::integral_constant<int64_t, 4>{}, filter);
  if (filter + 2 <= n_filters) filter = add(std::integral_constant<int64_t, 2>{}, filter);
  if (filter < n_filters) add(std::integral_constant<int64_t, 1>{}, filter);
}

// From one filter's sums to the window.
template <int64_t kFloats>
PYDYN_INLINE void finish_points(const float* sums, Window<kFloats>& window) {
  Sums<kFloats> rows;
#pragma GCC unroll 4
  for (int64_t i = 0; i < 4; ++i) {
    Number<kFloats> column[4];
#pragma GCC unroll 4
    for (int64_t row = 0; row < 4; ++row) column[row] = read<Number<kFloats>>(sums + (4 * row + i) * kFloats);
    rows[0][i] = column[0] + column[1] + column[2];
    rows[1][i] = column[1] - column[2] - column[3];
  }
  finish<kFloats>(rows, window);
}

}  // namespace pydyn
