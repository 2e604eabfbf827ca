// Populations of tiny convolutional networks: K networks of one architecture, each with weights, images' order and
// optimiser of its own, trained and evaluated side by side. A network is
//
//     [convolution 3 x 3, same size > ReLU > max-pooling 2 x 2] once or twice > flatten > dense > (ReLU >) softmax
//
// on grey images normalised as (pixel / 255 - mean) / std, and zeros around them. Its parameters are one vector of
// float32, in this order, each part row by row as in torch:
//
//     weight1 (F1, 1, 3, 3)  bias1 (F1)  [weight2 (F2, F1, 3, 3)  bias2 (F2)]  weight (C, F h w)  bias (C)
//
// with F filters of h x w pixels left by the last layer. A window's gradient goes to the first of its largest pixels,
// ReLU has none at 0, an odd last row or column is left out of pooling, the first of equal outputs is the prediction.
// The loss is the mean cross-entropy of a batch; "clipped", as Keras had it up to version 2.2, that of probabilities
// clipped to [1e-7, 1 - 1e-7], so that an image whose own class is less or more probable has no gradient. One step with
// gradient g, learning rate r, t steps done, this one too:
//
//     sgd      p -= r g
//     rmsprop  v = 0.9 v + 0.1 g^2;  p -= r g / (sqrt(v) + 1e-7)
//     adam     m = 0.9 m + 0.1 g;  v = 0.999 v + 0.001 g^2;  p -= r sqrt(1 - 0.999^t) / (1 - 0.9^t) m / (sqrt(v) +
//     1e-7)
//
// which are Keras's with its defaults.

#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

namespace pydyn {

constexpr int64_t kMaxLayers = 2;
constexpr int64_t kMaxFilters = 64;
constexpr int64_t kMaxClasses = 64;

enum class Optimiser : int64_t { kSgd, kRmsprop, kAdam };
constexpr int64_t kOptimisers = 3;
// Averages of gradients that an optimiser may keep for each parameter: m and v.
constexpr int64_t kMoments = 2;

struct TinyCNN {
  int64_t height, width;  // of the images
  int64_t n_layers;
  std::array<int64_t, kMaxLayers> filters;
  int64_t n_classes;
  bool output_relu;
  // A pixel's number: (pixel - offset) * scale.
  float offset, scale;

  int64_t rows(int64_t layer) const { return height >> (layer + 1); }  // after a layer's pooling
  int64_t columns(int64_t layer) const { return width >> (layer + 1); }
  int64_t windows(int64_t layer) const { return rows(layer) * columns(layer); }
  int64_t n_features() const { return filters[n_layers - 1] * windows(n_layers - 1); }

  // Where a layer's weights, and then its biases, begin in the vector of parameters.
  int64_t weight(int64_t layer) const { return layer == 0 ? 0 : 10 * filters[0]; }
  int64_t bias(int64_t layer) const { return layer == 0 ? 9 * filters[0] : weight(1) + 9 * filters[0] * filters[1]; }
  int64_t dense() const { return bias(n_layers - 1) + filters[n_layers - 1]; }
  int64_t dense_bias() const { return dense() + n_classes * n_features(); }
  int64_t n_parameters() const { return dense_bias() + n_classes; }
};

// Refuses an architecture or images (N, H, W) uint8 that no device can take.
TinyCNN prepare_tiny_cnn(const char* op, const at::Tensor& images, at::IntArrayRef filters, int64_t n_classes,
                         bool output_relu, double mean, double std);

// Refuses labels that are not (N,) int64; their range is left to the device that reads them, as that of all indices.
void check_labels(const char* op, const at::Tensor& images, const at::Tensor& labels);

// Refuses parameters that are not (K, P) float32, contiguous, of this architecture.
void check_parameters(const char* op, const TinyCNN& network, const at::Tensor& images, const at::Tensor& parameters);

// Refuses what a training needs beside: order (K, M) int64, moments (K, 2, P), learning_rates (K,) and optimisers (K,).
void check_training(const char* op, const TinyCNN& network, const at::Tensor& images, const at::Tensor& parameters,
                    const at::Tensor& moments, const at::Tensor& order, const at::Tensor& learning_rates,
                    const at::Tensor& optimisers, int64_t step, int64_t batch_size);

}  // namespace pydyn
