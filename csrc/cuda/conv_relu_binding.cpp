#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <limits>
#include <tuple>

#include "../conv_relu.h"
#include "binding.h"
#include "conv_relu.h"

namespace pydyn {
namespace {

template <typename Call>
void set_shape(Call& call, const at::Tensor& units) {
  call.n_images = units.size(0);
  call.n_channels = units.size(1);
  call.height = units.size(2);
  call.width = units.size(3);
}

// Kernels number the pixels that they take apart with 31 bits.
void check_pixels(const at::Tensor& images) {
  TORCH_CHECK_VALUE(images.size(0) * images.size(2) * images.size(3) <= std::numeric_limits<int32_t>::max(),
                    "conv_relu: on CUDA there must be fewer than 2^31 pixels, got shape ", images.sizes());
}

cuda::BackwardCall backward_call(const BackwardPass& job) {
  check_pixels(job.gradient);
  cuda::BackwardCall call{};
  call.units_gradient = job.units_gradient.mutable_data_ptr();
  call.gradient = job.gradient.const_data_ptr();
  call.partial_sums = job.partial_sums.mutable_data_ptr();
  call.n_rows = job.partial_sums.size(0);
  set_shape(call, job.units_gradient);
  return call;
}

std::tuple<at::Tensor, at::Tensor> relu_backward_cuda(const at::Tensor& gradient, const at::Tensor& activations) {
  const c10::cuda::CUDAGuard guard(gradient.device());
  const BackwardPass job = prepare_relu_backward(gradient, activations);
  if (job.gradient.numel() != 0) {
    cuda::BackwardCall call = backward_call(job);
    call.activations = job.kept.const_data_ptr();
    C10_CUDA_CHECK(
        cuda::relu_backward(call, cuda::dtype_of(gradient.scalar_type()), c10::cuda::getCurrentCUDAStream()));
  }
  return {job.units_gradient, job.partial_sums};
}

std::tuple<at::Tensor, at::Tensor> bias_relu_max_pool_cuda(const at::Tensor& units, const at::Tensor& bias) {
  const c10::cuda::CUDAGuard guard(units.device());
  const MaxPool job = prepare_bias_relu_max_pool(units, bias);
  if (job.pooled.numel() != 0) {
    check_pixels(job.pooled);
    cuda::MaxPoolCall call{};
    call.pooled = job.pooled.mutable_data_ptr();
    call.winner = job.winner.mutable_data_ptr<uint8_t>();
    call.units = job.units.const_data_ptr();
    call.bias = bias.const_data_ptr();
    set_shape(call, job.units);
    C10_CUDA_CHECK(
        cuda::bias_relu_max_pool(call, cuda::dtype_of(units.scalar_type()), c10::cuda::getCurrentCUDAStream()));
  }
  return {job.pooled, job.winner};
}

std::tuple<at::Tensor, at::Tensor> bias_relu_max_pool_backward_cuda(const at::Tensor& gradient,
                                                                    const at::Tensor& winner, int64_t height,
                                                                    int64_t width) {
  const c10::cuda::CUDAGuard guard(gradient.device());
  const BackwardPass job = prepare_bias_relu_max_pool_backward(gradient, winner, height, width);
  if (job.gradient.numel() != 0) {
    cuda::BackwardCall call = backward_call(job);
    call.winner = job.kept.const_data_ptr<uint8_t>();
    C10_CUDA_CHECK(cuda::bias_relu_max_pool_backward(call, cuda::dtype_of(gradient.scalar_type()),
                                                     c10::cuda::getCurrentCUDAStream()));
  }
  return {job.units_gradient, job.partial_sums};
}

at::Tensor sum_rows_cuda(const at::Tensor& rows) {
  const c10::cuda::CUDAGuard guard(rows.device());
  const SumOfRows job = prepare_sum_rows(rows);
  if (job.sums.numel() != 0) {
    C10_CUDA_CHECK(cuda::sum_rows(job.rows.const_data_ptr(), job.sums.mutable_data_ptr(), job.rows.size(0),
                                  job.rows.size(1), cuda::dtype_of(rows.scalar_type()),
                                  c10::cuda::getCurrentCUDAStream()));
  }
  return job.sums;
}

at::Tensor patches_cuda(const at::Tensor& images, int64_t window, int64_t stride, int64_t padding,
                        at::ScalarType dtype) {
  const c10::cuda::CUDAGuard guard(images.device());
  const Patches job = prepare_patches(images, window, stride, padding, dtype);
  if (job.out.numel() != 0) {
    check_pixels(job.out);
    TORCH_CHECK_VALUE(job.out.size(1) <= cuda::kMaxPatchChannels, "conv_relu: patches on CUDA are of at most ",
                      cuda::kMaxPatchChannels, " channels, got ", job.out.size(1));
    cuda::PatchesCall call{};
    call.out = job.out.mutable_data_ptr();
    call.images = job.images.const_data_ptr();
    set_shape(call, job.images);
    call.out_channels = job.out.size(1);
    call.out_height = job.out.size(2);
    call.out_width = job.out.size(3);
    call.window = job.window;
    call.stride = job.stride;
    call.padding = job.padding;
    C10_CUDA_CHECK(cuda::patches(call, cuda::dtype_of(images.scalar_type()), cuda::dtype_of(dtype),
                                 c10::cuda::getCurrentCUDAStream()));
  }
  return job.out;
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CUDA, library) {
  library.impl("relu_backward", &relu_backward_cuda);
  library.impl("bias_relu_max_pool", &bias_relu_max_pool_cuda);
  library.impl("bias_relu_max_pool_backward", &bias_relu_max_pool_backward_cuda);
  library.impl("sum_rows", &sum_rows_cuda);
  library.impl("patches", &patches_cuda);
}

}  // namespace pydyn
