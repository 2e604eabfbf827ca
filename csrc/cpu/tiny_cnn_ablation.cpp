#include <algorithm>

#include "clones.h"
#include "tiny_cnn.h"
#include "tiny_cnn_maps.h"

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

// The features of one window and some filters of a second layer with all maps, and without each of them. All sums are
// those of a forward pass: without a map they begin as with it and leave it out.
struct AblateWindow {
  template <int64_t kFloats>
  PYDYN_INLINE static void run(const Geometry& geometry, const float* filters, const float* bias, int64_t n_filters,
                               const float* corner, const float* weight, float* points, float* prefixes, float* sums,
                               float* shares) {
    const TinyCNN& network = geometry.network;
    const int64_t n_maps = network.filters[0], windows = network.windows(1), outputs = network.n_classes * kLanes;
    constexpr int64_t kRow = kPoints * kFloats;
    const int64_t size = n_filters * kRow;
    for (int64_t lane = 0; lane < kLanes; lane += kFloats) {
      const auto add_features = [&](const float* from, int64_t candidate) {
        for (int64_t filter = 0; filter < n_filters; ++filter) {
          Window<kFloats> window;
          finish_points<kFloats>(from + filter * kRow, window);
          add_feature<kFloats>(network, weight + filter * windows, best_of<kFloats>(window),
                               shares + (filter * (1 + n_maps) + candidate) * outputs + lane);
        }
      };
      // From the sums before a map, which rest behind the one before it, over maps [first, end).
      const auto go_on = [&](int64_t map, int64_t first, int64_t end, float* to) {
        const float* before = prefixes + std::max<int64_t>(map - 1, 0) * size;
        add_products<kFloats>(network, filters, bias, points + first * kRow, first, end, map == 0, n_filters, before,
                              to);
      };
      transform_maps<kFloats>(geometry, corner + lane, 0, n_maps, points);
      for (int64_t map = 0; map < n_maps; ++map) go_on(map, map, map + 1, prefixes + map * size);
      add_features(prefixes + (n_maps - 1) * size, 0);
      for (int64_t without = 0; without < n_maps; ++without) {
        go_on(without, without + 1, n_maps, sums);
        add_features(sums, 1 + without);
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
      shares_(kGroup * (1 + geometry.network.filters[0]) * outputs_size_),
      points_(geometry.deep ? geometry.network.filters[0] * kPoints * kLanes : 0),
      prefixes_(geometry.deep ? geometry.network.filters[0] * kGroup * kPoints * kLanes : 0),
      sums_(geometry.deep ? kGroup * kPoints * kLanes : 0) {}

void Ablation::run(const Geometry& geometry, const Filters& filters, Activations& activations) {
  const TinyCNN& network = geometry.network;
  const int64_t last = network.n_layers - 1, windows = network.windows(last), n_maps = network.filters[0];
  const int64_t shares_size = (1 + n_maps) * outputs_size_;
  convolve_images(geometry, filters, false, activations);
  const float* parameters = filters.parameters.data();
  for (int64_t candidate = 0; candidate < count_; ++candidate)
    for (int64_t output = 0; output < network.n_classes; ++output)
      std::fill_n(outputs_.data() + candidate * outputs_size_ + output * kLanes, kLanes,
                  parameters[network.dense_bias() + output]);
  for (int64_t first = 0; first < network.filters[last]; first += kGroup) {
    const int64_t n_filters = std::min(kGroup, network.filters[last] - first);
    const float* weight = parameters + network.dense() + first * windows;
    std::fill_n(shares_.data(), n_filters * shares_size, 0.0f);
    if (geometry.deep) {
      for (int64_t y = 0; y < network.rows(1); ++y)
        for (int64_t x = 0; x < network.columns(1); ++x)
          run_widest<AblateWindow>(
              geometry, filters.second.data() + first, parameters + network.bias(1) + first, n_filters,
              activations.maps.data() + 2 * (y * geometry.map_columns + x) * geometry.width * kLanes,
              weight + y * network.columns(1) + x, points_.data(), prefixes_.data(), sums_.data(), shares_.data());
    } else {
      for (int64_t filter = 0; filter < n_filters; ++filter)
        run_widest<AblateFeature>(network, weight + filter * windows,
                                  activations.features.data() + (first + filter) * windows * kLanes,
                                  shares_.data() + filter * shares_size);
    }
    // The candidates: all filters, each map left out, each of the last layer's filters left out.
    const int64_t first_of_last = geometry.deep ? 1 + n_maps : 1;
    for (int64_t filter = 0; filter < n_filters; ++filter)
      for (int64_t candidate = 0; candidate < count_; ++candidate) {
        if (candidate == first_of_last + first + filter) continue;
        const int64_t share = candidate < first_of_last ? candidate : 0;
        add(shares_.data() + filter * shares_size + share * outputs_size_, outputs_size_,
            outputs_.data() + candidate * outputs_size_);
      }
  }
}

}  // namespace pydyn
