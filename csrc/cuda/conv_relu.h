// Free of torch, so that any nvcc compiles the kernels in seconds. The maths: ../conv_relu.h.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "dtype.h"

namespace pydyn::cuda {

// All pointers are to device memory, where images are (n_images, height, width, n_channels).
struct BackwardCall {
  void* units_gradient;
  const void* gradient;
  const void* activations;  // or null, with pooling
  const uint8_t* winner;    // or null, without
  void* partial_sums;       // (n_rows, n_channels)
  int64_t n_rows;
  int64_t n_images, n_channels, height, width;  // of the units
};

struct MaxPoolCall {
  void* pooled;
  uint8_t* winner;
  const void* units;
  const void* bias;
  int64_t n_images, n_channels, height, width;  // of the units
};

struct PatchesCall {
  void* out;  // (n_images, out_height, out_width, out_channels), out_channels a multiple of 8
  const void* images;
  int64_t n_images, n_channels, height, width;
  int64_t out_channels, out_height, out_width;
  int64_t window, stride, padding;
};

constexpr int64_t kMaxPatchChannels = 4096;

// Enqueue on `stream`. No output is empty; rows to sum up may be none, of floats or doubles.
cudaError_t relu_backward(const BackwardCall& call, Dtype dtype, cudaStream_t stream);
cudaError_t bias_relu_max_pool(const MaxPoolCall& call, Dtype dtype, cudaStream_t stream);
cudaError_t bias_relu_max_pool_backward(const BackwardCall& call, Dtype dtype, cudaStream_t stream);
cudaError_t sum_rows(const void* rows, void* sums, int64_t n_rows, int64_t n_columns, Dtype dtype, cudaStream_t stream);
cudaError_t patches(const PatchesCall& call, Dtype from, Dtype to, cudaStream_t stream);

}  // namespace pydyn::cuda
