#include <algorithm>
#include <cstring>

#include "clones.h"
#include "tiny_cnn.h"
#include "tiny_cnn_window.h"

namespace pydyn {
namespace {

// Adds what a feature contributes to the outputs.
template <int64_t kFloats>
PYDYN_INLINE void add_feature(const TinyCNN& network, const float* weight, const Number<kFloats>& value,
                              float* outputs) {
  for (int64_t output = 0; output < network.n_classes; ++output) {
    float* sum = outputs + output * kLanes;
    write(read<Number<kFloats>>(sum) + all<kFloats>(weight[output * network.n_features()]) * value, sum);
  }
}

PYDYN_INLINE void add(const float* from, int64_t size, float* to) {
  for (int64_t i = 0; i < size; ++i) to[i] += from[i];
}

// The features of one window and filter of a second layer with all maps, and without each of them. All sums are those
// of a forward pass: without a map they begin as with it and leave it out.
struct AblateWindow {
  template <int64_t kFloats>
  PYDYN_INLINE static void run(const Geometry& geometry, const float* filters, float bias, const float* maps,
                               const float* weight, float* prefixes, float* shares) {
    const TinyCNN& network = geometry.network;
    const int64_t n_maps = network.filters[0], outputs = network.n_classes * kLanes;
    for (int64_t lane = 0; lane < kLanes; lane += kFloats) {
      // Left out is map `without`; -1: none, and the sums before each map are kept.
      for (int64_t without = -1; without < n_maps; ++without) {
        Sums<kFloats> sums;
        if (without < 0)
          start<kFloats>(bias, sums);
        else
          std::memcpy(&sums, prefixes + without * kSums * kFloats, sizeof(sums));
        for (int64_t map = without + 1; map < n_maps; ++map) {
          if (without < 0) std::memcpy(prefixes + map * kSums * kFloats, &sums, sizeof(sums));
          Patch<kFloats> patch;
          const int64_t at =
              (map >> geometry.width_bits) * geometry.map_pixels * geometry.width + (map & (geometry.width - 1));
          read_patch<kFloats>(maps + at * kLanes + lane, geometry.width, geometry.map_columns * geometry.width, patch);
          convolve<kFloats>(patch, filters + map * kPackedTaps, sums);
        }
        Window<kFloats> window;
        finish<kFloats>(sums, window);
        add_feature<kFloats>(network, weight, best_of<kFloats>(window), shares + (1 + without) * outputs + lane);
      }
    }
  }
};

struct AblateFeature {
  template <int64_t kFloats>
  PYDYN_INLINE static void run(const TinyCNN& network, const float* weight, const float* features, float* shares) {
    const int64_t windows = network.windows(network.n_layers - 1);
    for (int64_t window = 0; window < windows; ++window)
      for (int64_t lane = 0; lane < kLanes; lane += kFloats)
        add_feature<kFloats>(network, weight + window, read<Number<kFloats>>(features + window * kLanes + lane),
                             shares + lane);
  }
};

}  // namespace

Ablation::Ablation(const Geometry& geometry)
    : count_(1 + geometry.network.filters[0] + geometry.network.filters[1]),
      outputs_size_(geometry.network.n_classes * kLanes),
      outputs_(count_ * outputs_size_),
      shares_((1 + geometry.network.filters[0]) * outputs_size_),
      prefixes_(geometry.network.filters[0] * kSums * kLanes) {}

void Ablation::run(const Geometry& geometry, const Filters& filters, Activations& activations) {
  const TinyCNN& network = geometry.network;
  const int64_t last = network.n_layers - 1, windows = network.windows(last), n_maps = network.filters[0];
  convolve_images(geometry, filters, false, activations);
  const float* parameters = filters.parameters.data();
  for (int64_t candidate = 0; candidate < count_; ++candidate)
    for (int64_t output = 0; output < network.n_classes; ++output)
      std::fill_n(outputs_.data() + candidate * outputs_size_ + output * kLanes, kLanes,
                  parameters[network.dense_bias() + output]);
  for (int64_t filter = 0; filter < network.filters[last]; ++filter) {
    const float* weight = parameters + network.dense() + filter * windows;
    std::fill_n(shares_.data(), (1 + n_maps) * outputs_size_, 0.0f);
    if (geometry.deep) {
      for (int64_t y = 0; y < network.rows(1); ++y)
        for (int64_t x = 0; x < network.columns(1); ++x)
          run_widest<AblateWindow>(
              geometry, filters.second.data() + filter * n_maps * kPackedTaps, parameters[network.bias(1) + filter],
              activations.maps.data() + 2 * (y * geometry.map_columns + x) * geometry.width * kLanes,
              weight + y * network.columns(1) + x, prefixes_.data(), shares_.data());
    } else {
      run_widest<AblateFeature>(network, weight, activations.features.data() + filter * windows * kLanes,
                                shares_.data());
    }
    // The candidates: all filters, each map left out, each of the last layer's filters left out.
    const int64_t first_of_last = geometry.deep ? 1 + n_maps : 1;
    for (int64_t candidate = 0; candidate < count_; ++candidate) {
      if (candidate == first_of_last + filter) continue;
      const int64_t share = candidate < first_of_last ? candidate : 0;
      add(shares_.data() + share * outputs_size_, outputs_size_, outputs_.data() + candidate * outputs_size_);
    }
  }
}

}  // namespace pydyn
