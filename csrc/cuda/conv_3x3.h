// Free of torch, so that any nvcc compiles the kernels in seconds. The maths: ../conv_3x3.h.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "dtype.h"

namespace pydyn::cuda {

// Shared memory that a block may take, at most.
constexpr int kConvShared = 160 * 1024;

// All pointers are to device memory, aligned to 16 bytes; filters and channels are multiples of 32, images 16 or 32
// pixels wide. There are images.
struct ConvCall {
  void* out;           // (n_images, height, width, n_filters)
  const void* images;  // (n_images, height, width, n_channels)
  const void* weight;  // (n_filters, 3, 3, n_channels), transposed (n_channels, 3, 3, n_filters)
  const void* bias;    // (n_filters,), or null
  bool relu, transposed;
  int64_t n_images, height, width, n_filters, n_channels;
};

struct WeightGradientCall {
  float* partial;        // (n_slices, n_filters, 3, 3, n_channels)
  const void* gradient;  // (n_images, height, width, n_filters)
  const void* images;    // (n_images, height, width, n_channels)
  int64_t n_slices, n_images, height, width, n_filters, n_channels;
};

// Shared memory of a convolution over so many channels.
int64_t conv_3x3_shared(int64_t width, int64_t n_channels);

// How many slices of the images are summed up by themselves. It depends on shapes alone, and so does the order of sums.
int64_t weight_gradient_slices(int64_t n_images, int64_t height, int64_t width, int64_t n_filters, int64_t n_channels);

// Enqueue on `stream`, for half precision. cudaErrorNotSupported if the GPU has too little shared memory for a block,
// cudaErrorNoKernelImageForDevice if the kernels were compiled for GPUs before Ampere.
cudaError_t conv_3x3(const ConvCall& call, Dtype dtype, cudaStream_t stream);
cudaError_t weight_gradient(const WeightGradientCall& call, Dtype dtype, cudaStream_t stream);

}  // namespace pydyn::cuda
