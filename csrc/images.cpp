#include "images.h"

#include <c10/util/Exception.h>

namespace pydyn {
namespace {

// Twice this, in fixed-point and multiplied by a sine, still fits into 64 bits with room to spare.
constexpr int64_t kMaxSide = int64_t{1} << 20;
constexpr double kPi = 3.14159265358979323846;

Padding parse_padding(std::string_view name) {
  if (name == "zeros") return Padding::kZeros;
  if (name == "reflect") return Padding::kReflect;
  TORCH_CHECK_VALUE(name == "edge", "gather_images: padding_mode = '", name, "' is none of zeros, reflect, edge");
  return Padding::kEdge;
}

}  // namespace

ImageGather prepare_gather_images(const at::Tensor& images, const at::Tensor& index, at::ArrayRef<double> mean,
                                  at::ArrayRef<double> std, int64_t crop_padding, std::string_view padding_mode,
                                  bool flip, double rotation, double shift, int64_t seed,
                                  const std::optional<at::Tensor>& epoch_tensor, at::ScalarType dtype,
                                  bool channels_last) {
  TORCH_CHECK_TYPE(images.scalar_type() == at::kByte, "gather_images: images must be uint8, got ",
                   images.scalar_type());
  TORCH_CHECK_VALUE(images.dim() == 4 && images.size(3) >= 1 && images.size(3) <= kMaxChannels,
                    "gather_images: images must have shape (N, H, W, C) with C of 1 to 4, got ", images.sizes());
  TORCH_CHECK_VALUE(images.is_contiguous(), "gather_images: images must be contiguous, got shape ", images.sizes(),
                    " with strides ", images.strides(), "; call images.contiguous() once, outside the loop");
  TORCH_CHECK_VALUE(index.dim() == 1, "gather_images: index must have 1 dimension, got shape ", index.sizes());
  TORCH_CHECK_TYPE(index.scalar_type() == at::kLong, "gather_images: index must be int64, got ", index.scalar_type());
  TORCH_CHECK_INDEX(images.size(0) > 0 || index.size(0) == 0, "gather_images: index has ", index.size(0),
                    " elements, but there are no images");
  const int64_t height = images.size(1), width = images.size(2), channels = images.size(3);
  TORCH_CHECK_VALUE(height >= 1 && width >= 1 && height <= kMaxSide && width <= kMaxSide,
                    "gather_images: images must have sides of 1 to ", kMaxSide, " pixels, got shape ", images.sizes());
  TORCH_CHECK_VALUE(static_cast<int64_t>(mean.size()) == channels && static_cast<int64_t>(std.size()) == channels,
                    "gather_images: mean has ", mean.size(), " and std ", std.size(), " values, but images have ",
                    channels, " channels");
  TORCH_CHECK_VALUE(crop_padding >= 0 && crop_padding <= kMaxSide, "gather_images: crop_padding = ", crop_padding,
                    " is not in 0 to ", kMaxSide);
  TORCH_CHECK_VALUE(rotation >= 0 && rotation <= 180, "gather_images: rotation = ", rotation,
                    " is not in 0 to 180 degrees");
  TORCH_CHECK_VALUE(shift >= 0 && shift <= 1, "gather_images: shift = ", shift, " is not in 0 to 1");
  TORCH_CHECK_TYPE(dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf,
                   "gather_images: dtype = ", dtype, " is none of float32, bfloat16, float16");
  if (epoch_tensor.has_value()) {
    TORCH_CHECK_TYPE(epoch_tensor->scalar_type() == at::kLong, "gather_images: epoch must be int64, got ",
                     epoch_tensor->scalar_type());
    TORCH_CHECK_VALUE(epoch_tensor->numel() == 1, "gather_images: epoch must be one number, got shape ",
                      epoch_tensor->sizes());
    TORCH_CHECK_VALUE(epoch_tensor->device() == images.device(), "gather_images: images are on ", images.device(),
                      " and epoch on ", epoch_tensor->device(), "; put both on one device");
  }

  Augmentation augmentation{};
  augmentation.height = height;
  augmentation.width = width;
  augmentation.channels = channels;
  augmentation.crop_padding = crop_padding;
  augmentation.padding = parse_padding(padding_mode);
  augmentation.flip = flip;
  augmentation.warp = rotation > 0 || shift > 0;
  augmentation.rotation = static_cast<float>(rotation * (kPi / 180));
  augmentation.shift = static_cast<float>(shift);
  augmentation.seed = static_cast<uint64_t>(seed);
  for (int64_t c = 0; c < channels; ++c) {
    TORCH_CHECK_VALUE(std[c] > 0, "gather_images: std[", c, "] = ", std[c], " is not above 0");
    augmentation.offset[c] = static_cast<float>(mean[c]) * 255.0f;
    augmentation.scale[c] = 1.0f / (static_cast<float>(std[c]) * 255.0f);
  }

  const int64_t n_out = index.size(0);
  at::Tensor out = channels_last ? images.new_empty({n_out, height, width, channels}, dtype).permute({0, 3, 1, 2})
                                 : images.new_empty({n_out, channels, height, width}, dtype);
  return {out, augmentation, images.size(0), n_out, index.stride(0), channels_last};
}

}  // namespace pydyn
