// ReLU and max-pooling over windows of 2 x 2 pixels, in one pass:
//
//     pooled[n, c, y, x] = max(0, images[n, c, 2 y + dy, 2 x + dx])    over dy, dx in {0, 1}
//     winner[n, c, y, x] = 2 dy + dx of the first largest of them, 4 if none is above 0
//
// and back: the gradient of a window goes to its winner, all else gets 0. An odd last row or column is left out, as in
// torch. NaN wins over everything. No sum is taken anywhere, so that every device and order gives the same bits.
//
//     images  (N, C, H, W)            float16, bfloat16, float32 or float64
//     pooled  (N, C, H / 2, W / 2)    likewise, channels-last
//     winner  (N, C, H / 2, W / 2)    uint8, channels-last
//
// Memory bandwidth is the limit: the images are read once and a quarter of them, with a byte for each, is written.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace pydyn {

struct Pooling {
  at::Tensor images;  // channels-last: read, or in the backward pass written
  at::Tensor pooled;  // channels-last: written, or the gradient that is read
  at::Tensor winner;  // channels-last
  int64_t n_images, n_channels, height, width;
};

// Refuses what no device can compute and allocates the outputs.
Pooling prepare_relu_max_pool(const at::Tensor& images);
Pooling prepare_relu_max_pool_backward(const at::Tensor& gradient, const at::Tensor& winner, int64_t height,
                                       int64_t width);

}  // namespace pydyn
