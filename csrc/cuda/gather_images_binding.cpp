#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../images.h"
#include "binding.h"
#include "gather_images.h"

namespace pydyn {
namespace {

at::Tensor gather_images_cuda(const at::Tensor& images, const at::Tensor& index, at::ArrayRef<double> mean,
                              at::ArrayRef<double> std, int64_t crop_padding, std::string_view padding_mode, bool flip,
                              double rotation, double shift, int64_t seed, int64_t epoch,
                              const std::optional<at::Tensor>& epoch_tensor, at::ScalarType dtype, bool channels_last) {
  TORCH_CHECK_VALUE(images.device() == index.device(), "gather_images: images is on ", images.device(),
                    " and index on ", index.device(), "; put both on one device");
  const c10::cuda::CUDAGuard guard(images.device());
  const ImageGather gather = prepare_gather_images(images, index, mean, std, crop_padding, padding_mode, flip, rotation,
                                                   shift, seed, epoch_tensor, dtype, channels_last);
  const Augmentation& augmentation = gather.augmentation;
  TORCH_CHECK_VALUE(augmentation.height * augmentation.width * augmentation.channels < (int64_t{1} << 31),
                    "gather_images: images on CUDA must have fewer than 2^31 elements each, got shape ",
                    images.sizes());
  const cuda::ImageGatherCall call{gather.out.mutable_data_ptr(),
                                   images.const_data_ptr<uint8_t>(),
                                   index.const_data_ptr<int64_t>(),
                                   epoch_tensor.has_value() ? epoch_tensor->const_data_ptr<int64_t>() : nullptr,
                                   static_cast<uint32_t>(epoch),
                                   gather.n_images,
                                   gather.n_out,
                                   gather.index_stride,
                                   channels_last,
                                   augmentation};
  C10_CUDA_CHECK(cuda::gather_images(call, cuda::dtype_of(dtype), c10::cuda::getCurrentCUDAStream()));
  return gather.out;
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CUDA, library) { library.impl("gather_images", &gather_images_cuda); }

}  // namespace pydyn
