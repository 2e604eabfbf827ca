// A convolution of 3 x 3 pixels, stride 1 and padding 1, over few channels, and its gradients. With images 0 outside:
//
//     out[n, f, y, x]                = sum of images[n, c, y + dy - 1, x + dx - 1] weight[f, c, dy, dx], and bias[f]
//     images_gradient[n, c, y, x]    = sum of gradient[n, f, y + 1 - dy, x + 1 - dx] weight[f, c, dy, dx]
//     weight_gradient[f, c, dy, dx]  = sum of gradient[n, f, y, x] images[n, c, y + dy - 1, x + dx - 1]
//
// The first may be followed by a ReLU. Sums are made in float32, in an order that depends on shapes alone, but for what
// a GPU's matrix units do within 16 terms. Where the height does not fill whole tiles, a NaN in an image's last row
// spreads to more taps of the weight's gradient than in torch.
//
//     images, their gradient   (N, C, H, W)    float16 or bfloat16
//     out, gradient            (N, F, H, W)    likewise
//     weight                   (F, C, 3, 3)    likewise, its gradient float32
//     bias                     (F,)            likewise
//
// All channels-last. Made for 32 channels or filters, where cuDNN's kernels take up to four times as long (on an H100,
// see docs/speed.md), presumably since their tiles are made for more.

#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace pydyn {

struct Conv3x3 {
  at::Tensor images, weight, bias;  // read, aligned to 16 bytes; the bias may be undefined
  at::Tensor out;                   // written
};

struct Conv3x3WeightGradient {
  at::Tensor gradient, images;  // read, aligned to 16 bytes
  at::Tensor weight_gradient;   // written
};

// Refuse what the kernels cannot compute, and allocate the output. Transposed, images are the gradient of the output,
// and the result is the images' gradient.
Conv3x3 prepare_conv_3x3(const at::Tensor& images, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                         bool transposed);
Conv3x3WeightGradient prepare_conv_3x3_weight_gradient(const at::Tensor& gradient, const at::Tensor& images);

}  // namespace pydyn
