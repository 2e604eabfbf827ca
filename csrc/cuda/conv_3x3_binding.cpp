#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <array>
#include <optional>

#include "../conv_3x3.h"
#include "binding.h"
#include "conv_3x3.h"
#include "conv_relu.h"

namespace pydyn {
namespace {

at::Tensor conv_3x3_cuda(const at::Tensor& images, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                         bool relu, bool transposed) {
  const Conv3x3 job = prepare_conv_3x3(images, weight, bias, transposed);
  const c10::cuda::CUDAGuard guard(images.device());
  if (job.out.numel() == 0) return job.out;
  cuda::ConvCall call{};
  call.out = job.out.mutable_data_ptr();
  call.images = job.images.const_data_ptr();
  call.weight = job.weight.const_data_ptr();
  call.bias = bias ? job.bias.const_data_ptr() : nullptr;
  call.relu = relu;
  call.transposed = transposed;
  call.n_images = job.images.size(0);
  call.height = job.images.size(2);
  call.width = job.images.size(3);
  call.n_filters = job.out.size(1);
  call.n_channels = job.images.size(1);
  TORCH_CHECK_VALUE(cuda::conv_3x3_shared(call.width, call.n_channels) <= cuda::kConvShared,
                    "conv_3x3: the weights of ", call.n_channels, " channels are too many for a block");
  C10_CUDA_CHECK(cuda::conv_3x3(call, cuda::dtype_of(images.scalar_type()), c10::cuda::getCurrentCUDAStream()));
  return job.out;
}

at::Tensor conv_3x3_weight_gradient_cuda(const at::Tensor& gradient, const at::Tensor& images) {
  const Conv3x3WeightGradient job = prepare_conv_3x3_weight_gradient(gradient, images);
  const c10::cuda::CUDAGuard guard(images.device());
  if (job.images.numel() == 0) return job.weight_gradient.zero_();
  cuda::WeightGradientCall call{};
  call.gradient = job.gradient.const_data_ptr();
  call.images = job.images.const_data_ptr();
  call.n_images = job.images.size(0);
  call.height = job.images.size(2);
  call.width = job.images.size(3);
  call.n_filters = job.gradient.size(1);
  call.n_channels = job.images.size(1);
  call.n_slices = cuda::weight_gradient_slices(call.n_images, call.height, call.width, call.n_filters, call.n_channels);
  const std::array<int64_t, 2> sizes = {call.n_slices, job.weight_gradient.numel()};
  const at::Tensor partial = at::empty(sizes, job.weight_gradient.options());
  call.partial = partial.mutable_data_ptr<float>();
  const auto stream = c10::cuda::getCurrentCUDAStream();
  C10_CUDA_CHECK(cuda::weight_gradient(call, cuda::dtype_of(images.scalar_type()), stream));
  C10_CUDA_CHECK(cuda::sum_rows(call.partial, job.weight_gradient.mutable_data_ptr(), sizes[0], sizes[1],
                                cuda::Dtype::kFloat, stream));
  return job.weight_gradient;
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CUDA, library) {
  library.impl("conv_3x3", &conv_3x3_cuda);
  library.impl("conv_3x3_weight_gradient", &conv_3x3_weight_gradient_cuda);
}

}  // namespace pydyn
