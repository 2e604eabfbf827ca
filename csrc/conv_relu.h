// What a convolution with bias, ReLU and max-pooling is made of beside the library's convolution, each one pass:
//
//     patches[n, (dy w + dx) C + c, y, x] = images[n, c, s y - p + dy, s x - p + dx], 0 outside of the image
//
// with which a convolution of w x w pixels over few channels becomes one of 1 x 1 over many, as matrix units want it;
// channels from C w^2 to the next multiple of 8 are 0;
//
//     pooled[n, c, y, x] = the largest of max(0, units[n, c, 2 y + dy, 2 x + dx] + bias[c])    over dy, dx in {0, 1}
//     winner[n, c, y, x] = 2 dy + dx of the first largest of them, 4 if none is above 0
//
// and back: units_gradient is the gradient where the activation is above 0 (where it won its window), and the bias's
// gradient the sum of partial_sums over its rows, in an order that depends on shape and alignment alone. An odd last
// row or column is in no window.
//
//     images, units, activations, gradients  (N, C, H, W)            float16, bfloat16, float32 or float64
//     pooled, and its gradient               (N, C, H / 2, W / 2)    likewise
//     winner                                 (N, C, H / 2, W / 2)    uint8
//     bias                                   (C,)                    float32, float64 for float64
//     partial_sums                           (rows, C)               likewise
//
// All but the last two are channels-last. Memory bandwidth is the limit: plain torch goes over the units once more for
// the bias, for the ReLU, for its gradient, and to sum that up.

#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

namespace pydyn {

// Of biases, and of the sums of their gradients.
at::ScalarType bias_dtype(at::ScalarType units);

// Rows of partial sums of so many pixels: enough of them to keep a GPU busy.
inline int64_t partial_rows(int64_t n_pixels) { return std::min<int64_t>((n_pixels + 15) / 16, 1024); }

struct BackwardPass {
  at::Tensor units_gradient;  // written
  at::Tensor gradient, kept;  // read; kept are the activations or winners
  at::Tensor partial_sums;    // written
};

struct MaxPool {
  at::Tensor units;           // read
  at::Tensor pooled, winner;  // written
};

struct SumOfRows {
  at::Tensor rows;  // read
  at::Tensor sums;  // written
};

struct Patches {
  at::Tensor images;  // read
  at::Tensor out;     // written
  int64_t window, stride, padding;
};

// Refuse what no device can compute, and allocate the outputs.
BackwardPass prepare_relu_backward(const at::Tensor& gradient, const at::Tensor& activations);
MaxPool prepare_bias_relu_max_pool(const at::Tensor& units, const at::Tensor& bias);
BackwardPass prepare_bias_relu_max_pool_backward(const at::Tensor& gradient, const at::Tensor& winner, int64_t height,
                                                 int64_t width);
SumOfRows prepare_sum_rows(const at::Tensor& rows);
Patches prepare_patches(const at::Tensor& images, int64_t window, int64_t stride, int64_t padding,
                        at::ScalarType dtype);

}  // namespace pydyn
