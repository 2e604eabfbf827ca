#include "conv_relu.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/util/Exception.h>

#include <array>

namespace pydyn {
namespace {

constexpr auto kFormat = at::MemoryFormat::ChannelsLast;

void check_dtype(at::ScalarType dtype, const char* name) {
  TORCH_CHECK_TYPE(dtype == at::kHalf || dtype == at::kBFloat16 || dtype == at::kFloat || dtype == at::kDouble,
                   "conv_relu: ", name, " must be float16, bfloat16, float32 or float64, got ", dtype);
}

void check_together(const at::Tensor& one, const at::Tensor& other, const char* names) {
  TORCH_CHECK_VALUE(one.device() == other.device(), "conv_relu: ", names, " are on ", one.device(), " and ",
                    other.device(), "; put both on one device");
}

at::Tensor room_for_sums(const at::Tensor& gradient) {
  const std::array<int64_t, 2> sizes = {partial_rows(gradient.size(0) * gradient.size(2) * gradient.size(3)),
                                        gradient.size(1)};
  return at::empty(sizes, gradient.options().dtype(bias_dtype(gradient.scalar_type())));
}

}  // namespace

at::ScalarType bias_dtype(at::ScalarType units) { return units == at::kDouble ? at::kDouble : at::kFloat; }

BackwardPass prepare_relu_backward(const at::Tensor& gradient, const at::Tensor& activations) {
  check_dtype(gradient.scalar_type(), "gradient");
  check_together(gradient, activations, "gradient and activations");
  TORCH_CHECK_VALUE(gradient.dim() == 4 && gradient.sizes() == activations.sizes() &&
                        gradient.scalar_type() == activations.scalar_type(),
                    "conv_relu: gradient and activations must be alike, (N, C, H, W), got ", gradient.scalar_type(),
                    " of shape ", gradient.sizes(), " and ", activations.scalar_type(), " of shape ",
                    activations.sizes());
  const at::Tensor own = gradient.contiguous(kFormat);
  return {at::empty_like(own), own, activations.contiguous(kFormat), room_for_sums(own)};
}

MaxPool prepare_bias_relu_max_pool(const at::Tensor& units, const at::Tensor& bias) {
  check_dtype(units.scalar_type(), "units");
  check_together(units, bias, "units and bias");
  TORCH_CHECK_VALUE(units.dim() == 4 && units.size(2) >= 2 && units.size(3) >= 2,
                    "conv_relu: units must be (N, C, H, W) with H and W at least 2, got shape ", units.sizes());
  TORCH_CHECK_VALUE(bias.dim() == 1 && bias.size(0) == units.size(1) && bias.is_contiguous(),
                    "conv_relu: bias must be (", units.size(1), ",) and contiguous, got shape ", bias.sizes());
  TORCH_CHECK_TYPE(bias.scalar_type() == bias_dtype(units.scalar_type()), "conv_relu: bias must be ",
                   bias_dtype(units.scalar_type()), ", got ", bias.scalar_type());
  const std::array<int64_t, 4> sizes = {units.size(0), units.size(1), units.size(2) / 2, units.size(3) / 2};
  return {units.contiguous(kFormat), at::empty(sizes, units.options(), kFormat),
          at::empty(sizes, units.options().dtype(at::kByte), kFormat)};
}

BackwardPass prepare_bias_relu_max_pool_backward(const at::Tensor& gradient, const at::Tensor& winner, int64_t height,
                                                 int64_t width) {
  check_dtype(gradient.scalar_type(), "gradient");
  check_together(gradient, winner, "gradient and winner");
  TORCH_CHECK_TYPE(winner.scalar_type() == at::kByte, "conv_relu: winner must be uint8, got ", winner.scalar_type());
  TORCH_CHECK_VALUE(gradient.dim() == 4 && gradient.sizes() == winner.sizes() && height / 2 == gradient.size(2) &&
                        width / 2 == gradient.size(3),
                    "conv_relu: gradient of shape ", gradient.sizes(), " and winner of shape ", winner.sizes(),
                    " are not of units of ", height, " x ", width, " pixels");
  const std::array<int64_t, 4> sizes = {gradient.size(0), gradient.size(1), height, width};
  at::Tensor units = at::empty(sizes, gradient.options(), kFormat);
  if (height % 2 != 0 || width % 2 != 0) units.zero_();
  return {units, gradient.contiguous(kFormat), winner.contiguous(kFormat), room_for_sums(gradient)};
}

SumOfRows prepare_sum_rows(const at::Tensor& rows) {
  TORCH_CHECK_TYPE(rows.scalar_type() == at::kFloat || rows.scalar_type() == at::kDouble,
                   "conv_relu: partial sums must be float32 or float64, got ", rows.scalar_type());
  TORCH_CHECK_VALUE(rows.dim() == 2, "conv_relu: partial sums must be (rows, C), got shape ", rows.sizes());
  const std::array<int64_t, 1> sizes = {rows.size(1)};
  return {rows.contiguous(), at::empty(sizes, rows.options())};
}

Patches prepare_patches(const at::Tensor& images, int64_t window, int64_t stride, int64_t padding,
                        at::ScalarType dtype) {
  check_dtype(images.scalar_type(), "images");
  check_dtype(dtype, "patches");
  TORCH_CHECK_VALUE(window >= 1 && stride >= 1 && padding >= 0, "conv_relu: window and stride must be at least 1 and ",
                    "padding 0, got ", window, ", ", stride, " and ", padding);
  TORCH_CHECK_VALUE(images.dim() == 4 && std::min(images.size(2), images.size(3)) + 2 * padding >= window,
                    "conv_relu: images must be (N, C, H, W), with padding at least ", window, " x ", window,
                    " pixels, got shape ", images.sizes());
  const auto places = [&](int64_t size) { return (size + 2 * padding - window) / stride + 1; };
  const std::array<int64_t, 4> sizes = {images.size(0), (images.size(1) * window * window + 7) / 8 * 8,
                                        places(images.size(2)), places(images.size(3))};
  return {images.contiguous(kFormat), at::empty(sizes, images.options().dtype(dtype), kFormat), window, stride,
          padding};
}

}  // namespace pydyn
