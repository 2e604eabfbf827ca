#include <algorithm>

#include "clones.h"
#include "tiny_cnn.h"
#include "tiny_cnn_window.h"

namespace pydyn {
namespace {

// Some of what lies in lanes or by image: `count` times `size` numbers, which is a multiple of 4, `step` apart.
struct Part {
  int64_t count, size, step;
};

// Vectors of lanes to sixteen rows, one for each image, and back.
PYDYN_CLONES void lanes_to_rows(const Part& part, const float* lanes, float* rows, int64_t row_size) {
  for (int64_t first = 0; first < part.count * part.step; first += part.step)
    for (int64_t i = first; i < first + part.size; i += 4)
      for (int64_t lane = 0; lane < kLanes; lane += 4)
        transpose(lanes + i * kLanes + lane, kLanes, rows + lane * row_size + i, row_size);
}

PYDYN_CLONES void rows_to_lanes(const Part& part, const float* rows, int64_t row_size, float* lanes) {
  for (int64_t first = 0; first < part.count * part.step; first += part.step)
    for (int64_t i = first; i < first + part.size; i += 4)
      for (int64_t lane = 0; lane < kLanes; lane += 4)
        transpose(rows + lane * row_size + i, row_size, lanes + i * kLanes + lane, kLanes);
}

PYDYN_CLONES void winners_to_rows(const uint8_t* lanes, int64_t size, uint8_t* rows) {
  for (int64_t i = 0; i < size; i += kLanes) {
    Bytes block[kLanes];
    for (int64_t k = 0; k < kLanes; ++k) block[k] = read<Bytes>(lanes + (i + k) * kLanes);
    transpose(block);
    for (int64_t lane = 0; lane < kLanes; ++lane) write(block[lane], rows + lane * size + i);
  }
}

// Dense layer of one image: its weights' gradient is added up, the features' is written where they are above 0.
struct BackThroughDense {
  template <int64_t kFloats>
  PYDYN_INLINE static void run(const Geometry& geometry, const float* parameters, const float* output_slopes,
                               const float* features, float* weight_slopes, float* slopes) {
    using Features = Number<kFloats>;
    const TinyCNN& network = geometry.network;
    const int64_t n_features = network.n_features();
    for (int64_t i = 0; i < geometry.features; i += kFloats) {
      const auto value = read<Features>(features + i);
      Features sum{};
      // Of one output they read on into the next one's: the features are 0 there.
      for (int64_t output = 0; output < network.n_classes; ++output) {
        const Features slope = all<kFloats>(output_slopes[output * kLanes]);
        const int64_t at = output * n_features + i;
        sum += slope * read<Features>(parameters + network.dense() + at);
        write(read<Features>(weight_slopes + at) + slope * value, weight_slopes + at);
      }
      write(value > Features{} ? sum : Features{}, slopes + i);
    }
  }
};

// The windows of one filter and image that have a gradient: where in a plane the pixels that the winner looks at begin.
PYDYN_INLINE int64_t find_active(const Geometry& geometry, const Corner* corners, const float* slopes,
                                 const uint8_t* winners, int32_t* places, float* heights) {
  const int64_t windows = geometry.network.windows(1);
  const auto down = static_cast<int32_t>(geometry.map_columns * geometry.width);
  const auto right = static_cast<int32_t>(geometry.width);
  const int32_t step[4] = {0, right, down, down + right};
  int64_t n_active = 0;
  for (int64_t i = 0; i < windows; ++i) {
    // Without a branch, which nobody could predict. Of a zero all bits but the sign are 0.
    const auto [window, place] = corners[i];
    places[n_active] = place + step[winners[window] & 3];
    heights[n_active] = slopes[window];
    n_active += (bits_as<uint32_t>(slopes[window]) << 1) != 0;
  }
  return n_active;
}

// One filter of the second layer, and one plane of its maps.
template <int64_t kWidth>
PYDYN_INLINE void back_through_filter(const Geometry& geometry, const int32_t* places, const float* heights,
                                      int64_t n_active, const float* weight, const float* maps, float* weight_slopes,
                                      float* map_slopes, float* bias_slope) {
  using Channels = Vector<float, kWidth>;
  Channels weights[kTaps], sums[kTaps], bias{};
  const int64_t row_size = geometry.map_columns * kWidth;
#pragma GCC unroll 9
  for (int64_t tap = 0; tap < kTaps; ++tap) {
    weights[tap] = read<Channels>(weight + tap * geometry.channels);
    sums[tap] = read<Channels>(weight_slopes + tap * geometry.channels);
  }
  for (int64_t i = 0; i < n_active; ++i) {
    const Channels height = all<kWidth>(heights[i]);
    const float* from = maps + places[i];
    float* to = map_slopes + places[i];
    bias += height;
#pragma GCC unroll 3
    for (int64_t row = 0; row < 3; ++row, from += row_size, to += row_size)
#pragma GCC unroll 3
      for (int64_t column = 0; column < 3; ++column) {
        const int64_t tap = 3 * row + column, pixel = column * kWidth;
        sums[tap] += height * read<Channels>(from + pixel);
        write(read<Channels>(to + pixel) + height * weights[tap], to + pixel);
      }
  }
#pragma GCC unroll 9
  for (int64_t tap = 0; tap < kTaps; ++tap) write(sums[tap], weight_slopes + tap * geometry.channels);
  *bias_slope = bias[0];
}

// Second layer of one image.
template <int64_t kWidth>
struct BackThroughMaps {
  template <int64_t kFloats>
  PYDYN_INLINE static void run(const Geometry& geometry, const float* filters, const float* slopes,
                               const uint8_t* winners, const float* maps, float* map_slopes, float* weight_slopes,
                               float* bias_slopes, const Corner* corners, int32_t* places, float* heights,
                               int64_t* n_active) {
    const TinyCNN& network = geometry.network;
    const int64_t windows = network.windows(1), n_filters = network.filters[1];
    const int64_t plane_size = geometry.map_pixels * kWidth;
    for (int64_t filter = 0; filter < n_filters; ++filter)
      n_active[filter] = find_active(geometry, corners, slopes + filter * windows, winners + filter * windows,
                                     places + filter * windows, heights + filter * windows);
    std::memset(map_slopes, 0, geometry.planes * plane_size * sizeof(float));
    for (int64_t plane = 0; plane < geometry.planes; ++plane)
      for (int64_t filter = 0; filter < n_filters; ++filter) {
        const int64_t at = filter * kTaps * geometry.channels + plane * kWidth;
        float bias_slope;
        back_through_filter<kWidth>(geometry, places + filter * windows, heights + filter * windows, n_active[filter],
                                    filters + at, maps + plane * plane_size, weight_slopes + at,
                                    map_slopes + plane * plane_size, &bias_slope);
        if (plane == 0) bias_slopes[filter] += bias_slope;
      }
  }
};

// The features' gradient where they are the first layer's, in lanes.
struct BackToLanes {
  template <int64_t kFloats>
  PYDYN_INLINE static void run(const Geometry& geometry, const float* parameters, const float* output_slopes,
                               float* slopes) {
    using Lanes = Number<kFloats>;
    const TinyCNN& network = geometry.network;
    const float* weight = parameters + network.dense();
    for (int64_t i = 0; i < network.n_features(); ++i)
      for (int64_t lane = 0; lane < kLanes; lane += kFloats) {
        Lanes sum{};
        for (int64_t output = 0; output < network.n_classes; ++output)
          sum += read<Lanes>(output_slopes + output * kLanes + lane) *
                 all<kFloats>(weight[output * network.n_features() + i]);
        write(sum, slopes + i * kLanes + lane);
      }
  }
};

// First layer, in lanes: in each lane a window's winner looks at another nine of the window's sixteen pixels.
struct BackThroughImages {
  template <int64_t kFloats>
  PYDYN_INLINE static void run(const Geometry& geometry, const float* images, const float* map_slopes,
                               const uint8_t* winners, float* sums) {
    const TinyCNN& network = geometry.network;
    for (int64_t y = 0; y < network.rows(0); ++y)
      for (int64_t filter = 0; filter < network.filters[0]; ++filter)
        for (int64_t lane = 0; lane < kLanes; lane += kFloats)
          add_up_row<kFloats>(geometry, images + 2 * y * geometry.image_columns * kLanes + lane, map_slopes + lane,
                              winners + lane, y, filter, sums + filter * (kTaps + 1) * kLanes + lane);
  }

 private:
  template <int64_t kFloats>
  PYDYN_INLINE static void add_up_row(const Geometry& geometry, const float* images, const float* map_slopes,
                                      const uint8_t* winners, int64_t y, int64_t filter, float* sums) {
    using Lanes = Number<kFloats>;
    const int64_t columns = geometry.network.columns(0), windows = geometry.network.windows(0);
    Lanes taps[kTaps], bias = read<Lanes>(sums + kTaps * kLanes);
#pragma GCC unroll 9
    for (int64_t tap = 0; tap < kTaps; ++tap) taps[tap] = read<Lanes>(sums + tap * kLanes);
    for (int64_t x = 0; x < columns; ++x) {
      const Codes<kFloats> code = widen<kFloats>(winners + (filter * windows + y * columns + x) * kLanes);
      const auto slope = read<Lanes>(map_slopes + first_layer_at(geometry, y, x, filter) * kLanes);
      const Lanes height = code < Codes<kFloats>{} + int32_t{kNoWinner} ? slope : Lanes{};
      const auto right = (code & 1) != Codes<kFloats>{}, below = (code & 2) != Codes<kFloats>{};
      const float* from = images + 2 * x * kLanes;
      Lanes chosen[4][3];
#pragma GCC unroll 4
      for (int64_t row = 0; row < 4; ++row)
#pragma GCC unroll 3
        for (int64_t column = 0; column < 3; ++column) {
          const float* pixel = from + (row * geometry.image_columns + column) * kLanes;
          chosen[row][column] = right ? read<Lanes>(pixel + kLanes) : read<Lanes>(pixel);
        }
#pragma GCC unroll 3
      for (int64_t row = 0; row < 3; ++row)
#pragma GCC unroll 3
        for (int64_t column = 0; column < 3; ++column)
          taps[3 * row + column] += height * (below ? chosen[row + 1][column] : chosen[row][column]);
      bias += height;
    }
#pragma GCC unroll 9
    for (int64_t tap = 0; tap < kTaps; ++tap) write(taps[tap], sums + tap * kLanes);
    write(bias, sums + kTaps * kLanes);
  }
};

}  // namespace

void backward(const Geometry& geometry, const Filters& filters, const Activations& activations,
              const float* output_slopes, Scratch& scratch, Gradients& gradients) {
  const TinyCNN& network = geometry.network;
  const float* parameters = filters.parameters.data();
  float* flat = gradients.flat.data();
  std::array<bool, kLanes> matters{};
  for (int64_t output = 0; output < network.n_classes; ++output)
    for (int64_t image = 0; image < kLanes; ++image) {
      const float slope = output_slopes[output * kLanes + image];
      flat[network.dense_bias() + output] += slope;
      matters[image] |= slope != 0;
    }
  // Of images without a gradient there are many: all of a training that is stuck, most of one that has learnt by
  // clipped losses.
  if (std::none_of(matters.begin(), matters.end(), [](bool it) { return it; })) return;

  // The maps without the zeros around them, which stay as they are, or whose gradient nobody reads.
  const Part map{network.rows(0), network.columns(0) * geometry.width, geometry.map_columns * geometry.width};
  const auto map_at = [&](int64_t plane) {
    return (plane * geometry.map_pixels + geometry.map_columns + 1) * geometry.width;
  };
  lanes_to_rows({1, geometry.features, geometry.features}, activations.features.data(), scratch.rows.data(),
                geometry.features);
  if (geometry.deep) {
    winners_to_rows(activations.last_winners.data(), geometry.features, scratch.winners.data());
    for (int64_t plane = 0; plane < geometry.planes; ++plane)
      lanes_to_rows(map, activations.maps.data() + map_at(plane) * kLanes, scratch.maps.data() + map_at(plane),
                    geometry.map_row);
  } else {
    run_widest<BackToLanes>(geometry, parameters, output_slopes, scratch.first_slopes.data());
  }
  for (int64_t image = 0; image < kLanes; ++image) {
    float* map_slopes = scratch.map_slopes.data() + image * geometry.map_row;
    if (!matters[image]) {
      if (geometry.deep) std::fill_n(map_slopes, geometry.map_size, 0.0f);
      continue;
    }
    run_widest<BackThroughDense>(geometry, parameters, output_slopes + image,
                                 scratch.rows.data() + image * geometry.features, flat + network.dense(),
                                 scratch.slopes.data());
    if (!geometry.deep) continue;
    const auto back = [&](auto kernel) {
      run_widest<decltype(kernel)>(
          geometry, filters.back.data(), scratch.slopes.data(), scratch.winners.data() + image * geometry.features,
          scratch.maps.data() + image * geometry.map_row, map_slopes, gradients.filters.data(), flat + network.bias(1),
          scratch.corners.data(), scratch.places.data(), scratch.heights.data(), scratch.n_active.data());
    };
    geometry.width == 4   ? back(BackThroughMaps<4>{})
    : geometry.width == 8 ? back(BackThroughMaps<8>{})
                          : back(BackThroughMaps<16>{});
  }
  if (geometry.deep)
    for (int64_t plane = 0; plane < geometry.planes; ++plane)
      rows_to_lanes(map, scratch.map_slopes.data() + map_at(plane), geometry.map_row,
                    scratch.first_slopes.data() + map_at(plane) * kLanes);
  run_widest<BackThroughImages>(geometry, activations.images.data(), scratch.first_slopes.data(),
                                activations.first_winners.data(), gradients.first.data());
}

}  // namespace pydyn
