// How blocks of threads lie over images whose channels are packed, for kernels that keep to their channels.

#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>

namespace pydyn::cuda {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 8192;

// A block's threads stand side by side on packs of channels, and one above the other on pixels; its columns of channels
// stay, and it strides over pixels.
struct Layout {
  dim3 grid, block;
  int64_t n_packs;

  Layout(int64_t rows, int64_t n_channels, int count) : n_packs(n_channels / count) {
    const int64_t across = std::min<int64_t>(n_packs, kThreads), down = kThreads / across;
    block = dim3(static_cast<unsigned>(across), static_cast<unsigned>(down));
    grid = dim3(static_cast<unsigned>(rows), static_cast<unsigned>((n_packs + across - 1) / across));
  }

  // As many rows of blocks as have something to do.
  static int64_t rows_for(int64_t n_pixels, int64_t n_channels, int count) {
    const int64_t down = kThreads / std::min<int64_t>(n_channels / count, kThreads);
    return std::min((n_pixels + down - 1) / down, kMaxBlocks);
  }
};

__device__ __forceinline__ int64_t own_pack() { return int64_t{blockIdx.y} * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int64_t first_pixel() { return int64_t{blockIdx.x} * blockDim.y + threadIdx.y; }
__device__ __forceinline__ int64_t pixel_stride() { return int64_t{gridDim.x} * blockDim.y; }

}  // namespace pydyn::cuda
