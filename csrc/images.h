// Gather of images with augmentation and normalisation in one pass, the way a training batch leaves a pool of bytes:
//
//     out[i, c, y, x] = (augmented(images[index[i]])[y, x, c] / 255 - mean[c]) / std[c]
//
//     images  (N, H, W, C)  uint8, contiguous, C of 1 to 4
//     index   (B,)          int64, any stride, repeats allowed
//     out     (B, C, H, W)  float32, bfloat16 or float16, channels-last or contiguous
//
// Computed as (pixel - 255 mean) * (1 / (255 std)) in float32, so that both devices round alike; augment.h has the
// rest. It reads B H W C bytes and writes as many elements: memory bandwidth is its limit.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "augment.h"

namespace pydyn {

struct ImageGather {
  at::Tensor out;
  Augmentation augmentation;
  int64_t n_images;      // N
  int64_t n_out;         // B
  int64_t index_stride;  // in elements
  bool channels_last;
};

// Refuses what no device can gather and allocates `out`. The range of the indices is left to the device that reads
// them.
ImageGather prepare_gather_images(const at::Tensor& images, const at::Tensor& index, at::ArrayRef<double> mean,
                                  at::ArrayRef<double> std, int64_t crop_padding, std::string_view padding_mode,
                                  bool flip, double rotation, double shift, int64_t seed,
                                  const std::optional<at::Tensor>& epoch_tensor, at::ScalarType dtype,
                                  bool channels_last);

}  // namespace pydyn
