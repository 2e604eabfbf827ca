#include "conv_3x3.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <array>
#include <cstdint>
#include <limits>

namespace pydyn {
namespace {

constexpr auto kFormat = at::MemoryFormat::ChannelsLast;

// Channels-last without gaps, from where 16 bytes can be read at once.
at::Tensor readable(const at::Tensor& tensor) {
  const at::Tensor own = tensor.dim() == 4 ? tensor.contiguous(kFormat) : tensor.contiguous();
  return reinterpret_cast<uintptr_t>(own.const_data_ptr()) % 16 == 0 ? own : own.clone();
}

void check_alike(const at::Tensor& one, const at::Tensor& other, const char* names) {
  TORCH_CHECK_TYPE(one.scalar_type() == other.scalar_type() &&
                       (one.scalar_type() == at::kHalf || one.scalar_type() == at::kBFloat16),
                   "conv_3x3: ", names, " must both be float16 or bfloat16, got ", one.scalar_type(), " and ",
                   other.scalar_type());
  TORCH_CHECK_VALUE(one.device() == other.device(), "conv_3x3: ", names, " are on ", one.device(), " and ",
                    other.device(), "; put both on one device");
}

void check_images(const at::Tensor& images) {
  TORCH_CHECK_VALUE(images.dim() == 4 && (images.size(3) == 16 || images.size(3) == 32),
                    "conv_3x3: images must be (N, C, H, W) with a width of 16 or 32, got shape ", images.sizes());
  TORCH_CHECK_VALUE(images.size(0) * images.size(2) * images.size(3) <= std::numeric_limits<int32_t>::max(),
                    "conv_3x3: there must be fewer than 2^31 pixels, got shape ", images.sizes());
}

void check_channels(int64_t n_filters, int64_t n_channels) {
  TORCH_CHECK_VALUE(n_filters % 32 == 0 && n_channels % 32 == 0 && n_filters > 0 && n_channels > 0,
                    "conv_3x3: channels and filters must be multiples of 32, got ", n_channels, " and ", n_filters);
}

}  // namespace

Conv3x3 prepare_conv_3x3(const at::Tensor& images, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                         bool transposed) {
  check_alike(images, weight, "images and weight");
  check_images(images);
  TORCH_CHECK_VALUE(weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3 &&
                        weight.size(transposed ? 0 : 1) == images.size(1),
                    "conv_3x3: weight must be (F, C, 3, 3) with ", transposed ? "F = " : "C = ", images.size(1),
                    ", the channels of ", transposed ? "the gradient" : "the images", ", got shape ", weight.sizes());
  check_channels(weight.size(0), weight.size(1));
  const int64_t n_filters = weight.size(transposed ? 1 : 0);
  if (bias) {
    check_alike(images, *bias, "images and bias");
    TORCH_CHECK_VALUE(bias->dim() == 1 && bias->size(0) == n_filters, "conv_3x3: bias must be (", n_filters,
                      ",), got shape ", bias->sizes());
  }
  const std::array<int64_t, 4> sizes = {images.size(0), n_filters, images.size(2), images.size(3)};
  return {readable(images), readable(weight), bias ? readable(*bias) : at::Tensor(),
          at::empty(sizes, images.options(), kFormat)};
}

Conv3x3WeightGradient prepare_conv_3x3_weight_gradient(const at::Tensor& gradient, const at::Tensor& images) {
  check_alike(gradient, images, "gradient and images");
  check_images(images);
  TORCH_CHECK_VALUE(gradient.dim() == 4 && gradient.size(0) == images.size(0) && gradient.size(2) == images.size(2) &&
                        gradient.size(3) == images.size(3),
                    "conv_3x3: gradient must be (N, F, H, W) and images (N, C, H, W), got shapes ", gradient.sizes(),
                    " and ", images.sizes());
  check_channels(gradient.size(1), images.size(1));
  const std::array<int64_t, 4> sizes = {gradient.size(1), images.size(1), 3, 3};
  return {readable(gradient), readable(images), at::empty(sizes, images.options().dtype(at::kFloat), kFormat)};
}

}  // namespace pydyn
