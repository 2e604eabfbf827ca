// Forward and backward passes of a tiny network (see population.h) on the CPU, for sixteen images at a time.
//
// Two layouts. "Lanes": each number of the maps is a vector of sixteen, one for each image, so that any number of
// filters fills the vectors; both convolutions and the first layer's gradient are computed so. "By image": the maps of
// one image at a time, its channels in the lanes. Only one pixel of each pooling window has a gradient, another one in
// each image: the second layer's gradients visit just those.
//
// Every sum is taken in one fixed order, whatever else is trained beside: a network's numbers depend on the generation
// of the processor (clones.h) alone. The second convolution adds up one map after the other, and the dense layer one
// filter after the other, so that leaving one out gives, to the last bit, what a network without it gives.

#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "../population.h"
#include "vector.h"

namespace pydyn {

constexpr int64_t kTaps = 9;
// Of a filter whose rows are transformed (tiny_cnn_window.h), and whose columns are as well (tiny_cnn_maps.h).
constexpr int64_t kPackedTaps = 12;
constexpr int64_t kPoints = 16;

// A window's winner is the place of the first of its largest pixels, 2 dy + dx, or this if none is above 0.
constexpr uint8_t kNoWinner = 4;

// Zeros, on a boundary of cache lines, with some to spare behind for vectors that read on.
class Buffer {
 public:
  explicit Buffer(int64_t size);
  float* data() { return memory_.data() + start_; }
  const float* data() const { return memory_.data() + start_; }

 private:
  std::vector<float> memory_;
  int64_t start_;
};

struct Geometry {
  explicit Geometry(const TinyCNN& network);

  TinyCNN network;
  bool deep;              // whether there is a second layer
  int64_t image_columns;  // of an image with zeros around it
  int64_t image_pixels;
  // The first layer's maps before a second layer have zeros around them and lie in planes of a few channels:
  // (planes, map_pixels, width), in both layouts. Pixels of all channels would lie so far apart, with many of them,
  // that caches place them on top of each other.
  int64_t map_columns;
  int64_t map_pixels;
  int64_t width;  // 4, 8 or 16, at most what a register holds
  int64_t width_bits;
  int64_t planes;
  int64_t map_size;  // of all planes
  int64_t channels;  // likewise: the filters of the first layer, rounded up
  int64_t features;  // rounded up to a multiple of 16
  // Floats from one image's maps to the next one's: an odd number of cache lines, for the same reason.
  int64_t map_row;
};

// The number of a pixel among those of the first layer's maps; of a single layer they are features, (F1, windows).
PYDYN_INLINE int64_t first_layer_at(const Geometry& geometry, int64_t y, int64_t x, int64_t filter) {
  if (!geometry.deep) return filter * geometry.network.windows(0) + y * geometry.network.columns(0) + x;
  const int64_t pixel = (filter >> geometry.width_bits) * geometry.map_pixels + (y + 1) * geometry.map_columns + x + 1;
  return (pixel << geometry.width_bits) + (filter & (geometry.width - 1));
}

// What a forward pass leaves, in lanes.
struct Activations {
  explicit Activations(const Geometry& geometry);

  Buffer images;                       // (image_pixels)
  Buffer maps;                         // (planes, map_pixels, width) where there is a second layer
  Buffer points;                       // (width, 16) of a window and a plane's maps, transformed
  Buffer sums;                         // (F2, 16) of a window
  Buffer features;                     // (features), the padding is 0
  Buffer outputs;                      // (C)
  std::vector<uint8_t> first_winners;  // (F1, windows)
  std::vector<uint8_t> last_winners;   // (features) where there is a second layer
};

// Sixteen images, with zeros around them.
void load_images(const Geometry& geometry, const std::array<const uint8_t*, kLanes>& images, Activations& activations);

// A network's parameters, with its filters once more as the passes read them.
struct Filters {
  explicit Filters(const Geometry& geometry);
  // After `parameters` changed. `backward`: for a backward pass as well.
  void pack(const Geometry& geometry, bool backward);

  Buffer parameters;  // (P)
  Buffer first;       // (F1, 12)
  Buffer second;      // (16, F1, F2)
  Buffer back;        // (F2, 9, channels), of the second layer
};

// From images to outputs, before a ReLU on them. `winners`: note them, for a backward pass.
void forward(const Geometry& geometry, const Filters& filters, bool winners, Activations& activations);

// The layers of a forward pass.
void convolve_images(const Geometry& geometry, const Filters& filters, bool winners, Activations& activations);
void convolve_maps(const Geometry& geometry, const Filters& filters, bool winners, Activations& activations);
void classify(const Geometry& geometry, const Filters& filters, Activations& activations);

// The class of each of sixteen images, given their outputs in lanes, (C).
void predict(const TinyCNN& network, const float* outputs, int32_t* predictions);

// What images add to an epoch's sums.
struct Tally {
  double loss = 0;
  int64_t n_correct = 0;
};

// Softmax and cross-entropy, clipped or not, of the first `n_images` of sixteen, added to the tally; their gradient by
// the outputs times `share`, 0 for the others, in lanes, (C).
void cross_entropy(const TinyCNN& network, bool clipped, const float* outputs, const int32_t* labels, int64_t n_images,
                   float share, float* slopes, Tally& tally);

// Outputs in lanes after load_images, of the whole network and of those that lack one filter each: (1 + F1 + F2, C).
class Ablation {
 public:
  explicit Ablation(const Geometry& geometry);
  int64_t count() const { return count_; }
  const float* outputs(int64_t candidate) const { return outputs_.data() + candidate * outputs_size_; }
  void run(const Geometry& geometry, const Filters& filters, Activations& activations);

  // Filters of the last layer at a time: their sums stay in the second cache.
  static constexpr int64_t kGroup = 8;

 private:
  int64_t count_, outputs_size_;
  Buffer outputs_;
  Buffer shares_;    // (n, 1 + F1, C), of each filter's features; n are a group, or what is left for the last
  Buffer points_;    // (F1, 16) of a window, transformed
  Buffer prefixes_;  // (F1, n, 16), sums of a window behind each map
  Buffer sums_;      // (n, 16)
};

// Gradients of a batch, added up from sixteen images to sixteen.
struct Gradients {
  explicit Gradients(const Geometry& geometry);
  void clear();
  // As one vector, in the order of the parameters.
  float* collect(const Geometry& geometry);

  Buffer flat;     // (P); of the dense layer and the biases of the second
  Buffer first;    // lanes: (F1, 10), nine weights and a bias
  Buffer filters;  // (F2, 9, channels)

 private:
  int64_t flat_size_, first_size_, filters_size_;
};

// A pooling window of the second layer, and where in a plane of maps the pixels begin that it looks at.
struct Corner {
  int32_t window, place;
};

// What a backward pass needs room for.
struct Scratch {
  explicit Scratch(const Geometry& geometry);

  Buffer rows;                    // by image: features (16, features)
  Buffer maps, map_slopes;        // by image: (16, planes, map_pixels, width), see map_row
  Buffer first_slopes;            // lanes, as the first layer's maps
  Buffer slopes;                  // (features) of one image
  std::vector<uint8_t> winners;   // by image: (16, features)
  std::vector<Corner> corners;    // (windows), every other one of a row first
  std::vector<int32_t> places;    // (F2, windows) of one image: see find_active
  std::vector<float> heights;     // likewise
  std::vector<int64_t> n_active;  // (F2), likewise
};

// Adds to the gradients, given those by the outputs in lanes, (C), 0 for images that do not count.
void backward(const Geometry& geometry, const Filters& filters, const Activations& activations,
              const float* output_slopes, Scratch& scratch, Gradients& gradients);

}  // namespace pydyn
