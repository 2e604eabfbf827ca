#include "tiny_cnn.h"

#include <algorithm>

#include "clones.h"

namespace pydyn {
namespace {

constexpr int64_t kLineFloats = 64 / sizeof(float);

int64_t rounded_up(int64_t size, int64_t step) { return (size + step - 1) / step * step; }

// Three numbers as Winograd's F(2, 3) has them: four.
void transform(const float* taps, int64_t step, float* packed, int64_t packed_step) {
  packed[0] = taps[0];
  packed[packed_step] = 0.5f * (taps[0] + taps[step] + taps[2 * step]);
  packed[2 * packed_step] = 0.5f * (taps[0] - taps[step] + taps[2 * step]);
  packed[3 * packed_step] = taps[2 * step];
}

// A filter's rows, (3, 4).
void transform_rows(const float* weights, float* packed) {
  for (int64_t row = 0; row < 3; ++row) transform(weights + 3 * row, 1, packed + 4 * row, 1);
}

}  // namespace

Buffer::Buffer(int64_t size) : memory_(size + 3 * kLineFloats) {
  const auto address = reinterpret_cast<uintptr_t>(memory_.data()) / sizeof(float);
  start_ = static_cast<int64_t>((kLineFloats - address % kLineFloats) % kLineFloats);
}

Geometry::Geometry(const TinyCNN& tiny)
    : network(tiny),
      deep(tiny.n_layers == 2),
      image_columns(tiny.width + 2),
      image_pixels((tiny.height + 2) * image_columns),
      map_columns(tiny.columns(0) + 2),
      map_pixels((tiny.rows(0) + 2) * map_columns),
      features(rounded_up(tiny.n_features(), kLanes)) {
  width_bits = 2;
  while ((width = int64_t{1} << width_bits) < std::min(tiny.filters[0], native_floats())) ++width_bits;
  planes = deep ? rounded_up(tiny.filters[0], width) / width : 0;
  channels = planes * width;
  map_size = planes * map_pixels * width;
  map_row = (rounded_up(map_size, kLineFloats) / kLineFloats | 1) * kLineFloats;
}

Activations::Activations(const Geometry& geometry)
    : images(geometry.image_pixels * kLanes),
      maps(geometry.map_size * kLanes),
      points(geometry.deep ? kPoints * geometry.width * kLanes : 0),
      sums(geometry.network.filters[1] * kPoints * kLanes),
      features(geometry.features * kLanes),
      outputs(geometry.network.n_classes * kLanes),
      first_winners(geometry.network.filters[0] * geometry.network.windows(0) * kLanes),
      last_winners(geometry.deep ? geometry.features * kLanes : 0) {}

Gradients::Gradients(const Geometry& geometry)
    : flat(geometry.network.n_parameters()),
      first(geometry.network.filters[0] * (kTaps + 1) * kLanes),
      filters(geometry.network.filters[1] * kTaps * geometry.channels),
      flat_size_(geometry.network.n_parameters()),
      first_size_(geometry.network.filters[0] * (kTaps + 1) * kLanes),
      filters_size_(geometry.network.filters[1] * kTaps * geometry.channels) {}

void Gradients::clear() {
  std::memset(flat.data(), 0, flat_size_ * sizeof(float));
  std::memset(first.data(), 0, first_size_ * sizeof(float));
  std::memset(filters.data(), 0, filters_size_ * sizeof(float));
}

float* Gradients::collect(const Geometry& geometry) {
  const TinyCNN& network = geometry.network;
  float* to = flat.data();
  for (int64_t filter = 0; filter < network.filters[0]; ++filter)
    for (int64_t tap = 0; tap <= kTaps; ++tap) {
      const float* lanes = first.data() + (filter * (kTaps + 1) + tap) * kLanes;
      float sum = 0;
      for (int64_t lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
      to[tap < kTaps ? filter * kTaps + tap : network.bias(0) + filter] = sum;
    }
  if (geometry.deep) {
    float* weight = to + network.weight(1);
    const float* from = filters.data();
    for (int64_t filter = 0; filter < network.filters[1]; ++filter)
      for (int64_t tap = 0; tap < kTaps; ++tap, from += geometry.channels)
        for (int64_t map = 0; map < network.filters[0]; ++map)
          weight[(filter * network.filters[0] + map) * kTaps + tap] = from[map];
  }
  return to;
}

Scratch::Scratch(const Geometry& geometry)
    : rows(kLanes * geometry.features),
      maps(geometry.deep ? kLanes * geometry.map_row : 0),
      map_slopes(geometry.deep ? kLanes * geometry.map_row : 0),
      first_slopes(kLanes * (geometry.deep ? geometry.map_size : geometry.features)),
      slopes(geometry.features),
      winners(geometry.deep ? kLanes * geometry.features : 0),
      places(geometry.network.filters[1] * geometry.network.windows(1)),
      heights(geometry.network.filters[1] * geometry.network.windows(1)),
      n_active(geometry.network.filters[1]) {
  if (!geometry.deep) return;
  // Every other one of a row first: the pixels of neighbours overlap, and a sum would wait for the one just before it.
  const int64_t columns = geometry.network.columns(1);
  corners.reserve(geometry.network.windows(1));
  for (int64_t y = 0; y < geometry.network.rows(1); ++y)
    for (int64_t first = 0; first < 2; ++first)
      for (int64_t x = first; x < columns; x += 2)
        corners.push_back({static_cast<int32_t>(y * columns + x),
                           static_cast<int32_t>(2 * (y * geometry.map_columns + x) * geometry.width)});
}

Filters::Filters(const Geometry& geometry)
    : parameters(geometry.network.n_parameters()),
      first(geometry.network.filters[0] * kPackedTaps),
      second(kPoints * geometry.network.filters[0] * geometry.network.filters[1]),
      back(geometry.network.filters[1] * kTaps * geometry.channels) {}

void Filters::pack(const Geometry& geometry, bool backward) {
  const TinyCNN& network = geometry.network;
  const int64_t n_maps = network.filters[0];
  for (int64_t filter = 0; filter < n_maps; ++filter)
    transform_rows(parameters.data() + network.weight(0) + filter * kTaps, first.data() + filter * kPackedTaps);
  if (!geometry.deep) return;
  const float* weight = parameters.data() + network.weight(1);
  const int64_t n_filters = network.filters[1], row = n_maps * n_filters;
  for (int64_t filter = 0; filter < n_filters; ++filter)
    for (int64_t map = 0; map < n_maps; ++map) {
      float rows[kPackedTaps];
      transform_rows(weight + (filter * n_maps + map) * kTaps, rows);
      for (int64_t i = 0; i < 4; ++i)
        transform(rows + i, 4, second.data() + i * row + map * n_filters + filter, 4 * row);
    }
  if (!backward) return;
  float* to = back.data();
  for (int64_t filter = 0; filter < n_filters; ++filter)
    for (int64_t tap = 0; tap < kTaps; ++tap, to += geometry.channels)
      for (int64_t map = 0; map < n_maps; ++map) to[map] = weight[(filter * n_maps + map) * kTaps + tap];
}

}  // namespace pydyn
