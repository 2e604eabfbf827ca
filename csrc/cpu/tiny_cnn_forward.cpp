#include <algorithm>

#include "clones.h"
#include "tiny_cnn.h"
#include "tiny_cnn_maps.h"

namespace pydyn {
namespace {

template <bool kWinners>
struct ConvolveImages {
  template <int64_t kFloats>
  PYDYN_INLINE static void run(const Geometry& geometry, const float* filters, const float* bias, const float* images,
                               float* maps, uint8_t* winners) {
    const TinyCNN& network = geometry.network;
    const int64_t rows = network.rows(0), columns = network.columns(0);
    [[maybe_unused]] const int64_t windows = network.windows(0);
    for (int64_t y = 0; y < rows; ++y)
      for (int64_t x = 0; x < columns; ++x)
        for (int64_t lane = 0; lane < kLanes; lane += kFloats) {
          Patch<kFloats> patch;
          read_patch<kFloats>(images + (2 * y * geometry.image_columns + 2 * x) * kLanes + lane, 1,
                              geometry.image_columns, patch);
          for (int64_t filter = 0; filter < network.filters[0]; ++filter) {
            Sums<kFloats> sums;
            Window<kFloats> window;
            start<kFloats>(bias[filter], sums);
            convolve<kFloats>(patch, filters + filter * kPackedTaps, sums);
            finish<kFloats>(sums, window);
            const Number<kFloats> best = best_of<kFloats>(window);
            write(best, maps + first_layer_at(geometry, y, x, filter) * kLanes + lane);
            if constexpr (kWinners)
              note_winner<kFloats>(window, best, winners + (filter * windows + y * columns + x) * kLanes + lane);
          }
        }
  }
};

template <bool kWinners>
struct ConvolveMaps {
  template <int64_t kFloats>
  PYDYN_INLINE static void run(const Geometry& geometry, const float* filters, const float* bias, const float* maps,
                               float* points, float* sums, float* features, uint8_t* winners) {
    const TinyCNN& network = geometry.network;
    const int64_t rows = network.rows(1), columns = network.columns(1), windows = network.windows(1);
    const int64_t n_maps = network.filters[0], n_filters = network.filters[1];
    for (int64_t y = 0; y < rows; ++y)
      for (int64_t x = 0; x < columns; ++x)
        for (int64_t lane = 0; lane < kLanes; lane += kFloats) {
          const float* corner = maps + 2 * (y * geometry.map_columns + x) * geometry.width * kLanes + lane;
          // Plane by plane: the points of its maps stay in the first cache while all filters read them.
          for (int64_t map = 0; map < n_maps; map += geometry.width) {
            const int64_t end = std::min(map + geometry.width, n_maps);
            transform_maps<kFloats>(geometry, corner, map, end, points);
            add_products<kFloats>(network, filters, bias, points, map, end, map == 0, n_filters, sums, sums);
          }
          for (int64_t filter = 0; filter < n_filters; ++filter) {
            const int64_t at = (filter * windows + y * columns + x) * kLanes + lane;
            Window<kFloats> window;
            finish_points<kFloats>(sums + filter * kPoints * kFloats, window);
            const Number<kFloats> best = best_of<kFloats>(window);
            write(best, features + at);
            if constexpr (kWinners) note_winner<kFloats>(window, best, winners + at);
          }
        }
  }
};

// Outputs [output, output + kOutputs). Filter by filter, so that leaving one out changes no other sum.
template <int64_t kFloats, int64_t kOutputs>
PYDYN_INLINE void add_up_features(const TinyCNN& network, const float* parameters, const float* features,
                                  int64_t output, float* outputs) {
  const int64_t last = network.n_layers - 1, windows = network.windows(last);
  const float* weight[kOutputs];
  Number<kFloats> totals[kOutputs];
#pragma GCC unroll 3
  for (int64_t o = 0; o < kOutputs; ++o) {
    weight[o] = parameters + network.dense() + (output + o) * network.n_features();
    totals[o] = all<kFloats>(parameters[network.dense_bias() + output + o]);
  }
  for (int64_t filter = 0; filter < network.filters[last]; ++filter) {
    Number<kFloats> sums[kOutputs] = {};
    for (int64_t feature = filter * windows; feature < (filter + 1) * windows; ++feature) {
      const auto value = read<Number<kFloats>>(features + feature * kLanes);
#pragma GCC unroll 3
      for (int64_t o = 0; o < kOutputs; ++o) sums[o] += all<kFloats>(weight[o][feature]) * value;
    }
#pragma GCC unroll 3
    for (int64_t o = 0; o < kOutputs; ++o) totals[o] += sums[o];
  }
#pragma GCC unroll 3
  for (int64_t o = 0; o < kOutputs; ++o) write(totals[o], outputs + (output + o) * kLanes);
}

struct Classify {
  template <int64_t kFloats>
  PYDYN_INLINE static void run(const Geometry& geometry, const float* parameters, const float* features,
                               float* outputs) {
    const TinyCNN& network = geometry.network;
    for (int64_t lane = 0; lane < kLanes; lane += kFloats) {
      int64_t output = 0;
      for (; output + 3 <= network.n_classes; output += 3)
        add_up_features<kFloats, 3>(network, parameters, features + lane, output, outputs + lane);
      for (; output < network.n_classes; ++output)
        add_up_features<kFloats, 1>(network, parameters, features + lane, output, outputs + lane);
    }
  }
};

struct Normalise {
  template <int64_t kFloats>
  PYDYN_INLINE static void run(const Geometry& geometry, const uint8_t* const* images, float* lanes) {
    const TinyCNN& network = geometry.network;
    const int64_t pixels = network.height * network.width;
    const Number<kFloats> offset = all<kFloats>(network.offset), scale = all<kFloats>(network.scale);
    for (int64_t next = 0; next < pixels; next += kLanes) {
      // The last sixteen overlap with those before, if they have to.
      const int64_t first = std::min(next, pixels - kLanes);
      Bytes rows[kLanes];
      for (int64_t lane = 0; lane < kLanes; ++lane) rows[lane] = read<Bytes>(images[lane] + first);
      transpose(rows);
      int64_t y = first / network.width, x = first % network.width;
      for (int64_t i = 0; i < kLanes; ++i) {
        const auto* bytes = reinterpret_cast<const uint8_t*>(&rows[i]);
        float* to = lanes + ((y + 1) * geometry.image_columns + x + 1) * kLanes;
        for (int64_t lane = 0; lane < kLanes; lane += kFloats) {
          const auto pixel = __builtin_convertvector(widen<kFloats>(bytes + lane), Number<kFloats>);
          write((pixel - offset) * scale, to + lane);
        }
        if (++x == network.width) {
          x = 0;
          ++y;
        }
      }
    }
  }
};

}  // namespace

void load_images(const Geometry& geometry, const std::array<const uint8_t*, kLanes>& images, Activations& activations) {
  run_widest<Normalise>(geometry, images.data(), activations.images.data());
}

void convolve_images(const Geometry& geometry, const Filters& filters, bool winners, Activations& activations) {
  const auto convolve = [&](auto kernel) {
    run_widest<decltype(kernel)>(
        geometry, filters.first.data(), filters.parameters.data() + geometry.network.bias(0), activations.images.data(),
        geometry.deep ? activations.maps.data() : activations.features.data(), activations.first_winners.data());
  };
  winners ? convolve(ConvolveImages<true>{}) : convolve(ConvolveImages<false>{});
}

void convolve_maps(const Geometry& geometry, const Filters& filters, bool winners, Activations& activations) {
  const auto convolve = [&](auto kernel) {
    run_widest<decltype(kernel)>(geometry, filters.second.data(), filters.parameters.data() + geometry.network.bias(1),
                                 activations.maps.data(), activations.points.data(), activations.sums.data(),
                                 activations.features.data(), activations.last_winners.data());
  };
  winners ? convolve(ConvolveMaps<true>{}) : convolve(ConvolveMaps<false>{});
}

void classify(const Geometry& geometry, const Filters& filters, Activations& activations) {
  run_widest<Classify>(geometry, filters.parameters.data(), activations.features.data(), activations.outputs.data());
}

void forward(const Geometry& geometry, const Filters& filters, bool winners, Activations& activations) {
  convolve_images(geometry, filters, winners, activations);
  if (geometry.deep) convolve_maps(geometry, filters, winners, activations);
  classify(geometry, filters, activations);
}

}  // namespace pydyn
