#include "pool.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <array>

namespace pydyn {
namespace {

constexpr auto kFormat = at::MemoryFormat::ChannelsLast;

void check_dtype(const at::Tensor& tensor, const char* name) {
  const at::ScalarType dtype = tensor.scalar_type();
  TORCH_CHECK_TYPE(dtype == at::kHalf || dtype == at::kBFloat16 || dtype == at::kFloat || dtype == at::kDouble,
                   "relu_max_pool: ", name, " must be float16, bfloat16, float32 or float64, got ", dtype);
}

}  // namespace

Pooling prepare_relu_max_pool(const at::Tensor& images) {
  check_dtype(images, "images");
  TORCH_CHECK_VALUE(images.dim() == 4 && images.size(2) >= 2 && images.size(3) >= 2,
                    "relu_max_pool: images must be (N, C, H, W) with H and W at least 2, got shape ", images.sizes());
  const int64_t height = images.size(2), width = images.size(3);
  const std::array<int64_t, 4> sizes = {images.size(0), images.size(1), height / 2, width / 2};
  return {images.contiguous(kFormat),
          at::empty(sizes, images.options(), kFormat),
          at::empty(sizes, images.options().dtype(at::kByte), kFormat),
          images.size(0),
          images.size(1),
          height,
          width};
}

Pooling prepare_relu_max_pool_backward(const at::Tensor& gradient, const at::Tensor& winner, int64_t height,
                                       int64_t width) {
  check_dtype(gradient, "gradient");
  TORCH_CHECK_TYPE(winner.scalar_type() == at::kByte, "relu_max_pool: winner must be uint8, got ",
                   winner.scalar_type());
  TORCH_CHECK_VALUE(gradient.dim() == 4 && gradient.sizes() == winner.sizes() && height / 2 == gradient.size(2) &&
                        width / 2 == gradient.size(3) && height >= 2 && width >= 2,
                    "relu_max_pool: gradient of shape ", gradient.sizes(), " and winner of shape ", winner.sizes(),
                    " are not of images of ", height, " x ", width, " pixels");
  const std::array<int64_t, 4> sizes = {gradient.size(0), gradient.size(1), height, width};
  return {at::empty(sizes, gradient.options(), kFormat),
          gradient.contiguous(kFormat),
          winner.contiguous(kFormat),
          gradient.size(0),
          gradient.size(1),
          height,
          width};
}

}  // namespace pydyn
