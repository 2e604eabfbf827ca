#include <algorithm>

#include "conv_3x3.h"
#include "reals.h"
#include "tiles.h"

namespace pydyn::cuda {
namespace {

constexpr int kSplits = 4;  // of a tile's pixels over warps
constexpr int kPixelsApart = kSplits * kStep;
constexpr int kThreads = 32 * kTaps * kSplits;
constexpr int kStages = 3;  // tiles in shared memory: one is read while others come
// Of a filter's sums in shared memory: a quarter of the banks further than the filter before, so that rows do not meet.
constexpr int kPitch = kTaps * kTaps * kTileChannels + 8;
// As many blocks as an H100 has multiprocessors. Another GPU takes them in turn.
constexpr int64_t kBlocks = 132;

// A tile of the images, and behind it the gradient's pixels.
template <int kWidth>
struct Stage {
  static constexpr uint32_t kGradient = Tile<kWidth>::kBytes;
  static constexpr uint32_t kBytes = kGradient + kTilePixels * kPixelBytes;
  static_assert(kPixelsApart % kWidth == 0);
};

template <int kWidth>
__device__ __forceinline__ void copy_stage(const WeightGradientCall& call, int tile, int tiles_of_image, int64_t filter,
                                           int64_t channel, uint32_t to) {
  constexpr int kRows = Tile<kWidth>::kRows;
  const int image = tile / tiles_of_image, top = (tile - image * tiles_of_image) * kRows;
  const int height = static_cast<int>(call.height);
  copy_rows<kWidth, kThreads, kRows + 2, 1, Tile<kWidth>::kRowBytes>(call.images, image, top, height, call.n_channels,
                                                                     channel, to);
  copy_rows<kWidth, kThreads, kRows, 0, kWidth * kPixelBytes>(call.gradient, image, top, height, call.n_filters, filter,
                                                              to + Stage<kWidth>::kGradient);
}

// A block sums up a slice of the images for 32 filters and 32 channels. A warp has one row of the weight's taps and a
// part of every tile's pixels.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads, 1)
    weight_gradient_kernel(const __grid_constant__ WeightGradientCall call, int n_channel_tiles) {
#if __CUDA_ARCH__ >= 800
  extern __shared__ __align__(128) char shared[];
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int dy = warp % kTaps, split = warp / kTaps;
  const int64_t filter = int64_t{static_cast<int>(blockIdx.y) / n_channel_tiles} * kTileChannels;
  const int64_t channel = int64_t{static_cast<int>(blockIdx.y) % n_channel_tiles} * kTileChannels;
  const int tiles_of_image = (static_cast<int>(call.height) + Tile<kWidth>::kRows - 1) / Tile<kWidth>::kRows;
  const int n_tiles = static_cast<int>(call.n_images) * tiles_of_image, n_slices = static_cast<int>(call.n_slices);
  const uint32_t start = shared_address(shared);

  int coming = static_cast<int>(blockIdx.x);
  for (int stage = 0; stage < kStages - 1; ++stage, coming += n_slices) {
    if (coming < n_tiles)
      copy_stage<kWidth>(call, coming, tiles_of_image, filter, channel, start + stage * Stage<kWidth>::kBytes);
    end_copies();
  }
  for (int stage = 0; stage < kStages; ++stage) clear_margins<kWidth, kThreads>(shared + stage * Stage<kWidth>::kBytes);

  // Where a thread's rows of matrices lie in a tile, for a warp's first step. Further steps are whole turns of chunks
  // away.
  uint32_t of_gradient[2], of_images[kTaps][2];
  const int low = lane % kFragment, middle = lane / kFragment % 2, high = lane / 16;
#pragma unroll
  for (int m = 0; m < 2; ++m)
    of_gradient[m] = Stage<kWidth>::kGradient + place_in_tile(split * kStep + high * kFragment + low, 2 * m + middle);
  const int pixel = split * kStep + middle * kFragment + low;
#pragma unroll
  for (int dx = 0; dx < kTaps; ++dx)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      of_images[dx][half] =
          (pixel / kWidth + dy) * Tile<kWidth>::kRowBytes + place_in_tile(pixel % kWidth + dx, 2 * half + high);

  float sums[2][kTaps * 4][4] = {};
  int stage = 0;
  for (int tile = static_cast<int>(blockIdx.x); tile < n_tiles; tile += n_slices, coming += n_slices) {
    wait_for_copies<kStages - 2>();
    __syncthreads();
    if (coming < n_tiles) {
      const int free = stage == 0 ? kStages - 1 : stage - 1;
      copy_stage<kWidth>(call, coming, tiles_of_image, filter, channel, start + free * Stage<kWidth>::kBytes);
    }
    end_copies();
    const uint32_t base = start + stage * Stage<kWidth>::kBytes;
#pragma unroll
    for (int step = 0; step < kTilePixels / kPixelsApart; ++step) {
      uint32_t left[2][4], right[4];
#pragma unroll
      for (int m = 0; m < 2; ++m)
        load_matrices_transposed(left[m], base + of_gradient[m] + step * kPixelsApart * kPixelBytes);
#pragma unroll
      for (int dx = 0; dx < kTaps; ++dx)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          load_matrices_transposed(
              right, base + of_images[dx][half] + step * (kPixelsApart / kWidth) * Tile<kWidth>::kRowBytes);
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            multiply(sums[m][dx * 4 + 2 * half], left[m], right[0], right[1], T());
            multiply(sums[m][dx * 4 + 2 * half + 1], left[m], right[2], right[3], T());
          }
        }
    }
    stage = stage == kStages - 1 ? 0 : stage + 1;
  }

  // The warps' parts, one after the other: (filter, dy, dx, channel).
  wait_for_copies<0>();
  float* const total = reinterpret_cast<float*>(shared);
  for (int turn = 0; turn < kSplits; ++turn) {
    __syncthreads();
    if (split != turn) continue;
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int n = 0; n < kTaps * 4; ++n)
#pragma unroll
        for (int lower = 0; lower < 2; ++lower) {
          const int row = m * 16 + lower * kFragment + lane / 4, tap = dy * kTaps + n / 4;
          auto& sum =
              *reinterpret_cast<float2*>(total + row * kPitch + tap * kTileChannels + n % 4 * kFragment + lane % 4 * 2);
          const float2 before = turn == 0 ? float2{0, 0} : sum;
          sum = float2{before.x + sums[m][n][2 * lower], before.y + sums[m][n][2 * lower + 1]};
        }
  }
  __syncthreads();
  constexpr int kPacks = kTileChannels / 4;
  float* const out = call.partial + (blockIdx.x * call.n_filters + filter) * kTaps * kTaps * call.n_channels + channel;
  for (int i = static_cast<int>(threadIdx.x); i < kTileChannels * kTaps * kTaps * kPacks; i += kThreads) {
    const int place = i / kPacks, pack = i % kPacks * 4, row = place / (kTaps * kTaps), tap = place % (kTaps * kTaps);
    *reinterpret_cast<float4*>(out + place * call.n_channels + pack) =
        *reinterpret_cast<const float4*>(total + row * kPitch + tap * kTileChannels + pack);
  }
#else
  __trap();
#endif
}

template <typename T, int kWidth>
cudaError_t launch(const WeightGradientCall& call, cudaStream_t stream) {
  constexpr int kBytes = static_cast<int>(kStages * Stage<kWidth>::kBytes);
  static_assert(kBytes >= kTileChannels * kPitch * static_cast<int>(sizeof(float)) && kBytes <= kConvShared);
  const auto kernel = weight_gradient_kernel<T, kWidth>;
  const cudaError_t error = allow_shared(kernel, kConvShared);
  if (error != cudaSuccess) return error;
  const int64_t n_channel_tiles = call.n_channels / kTileChannels;
  const dim3 grid(static_cast<unsigned>(call.n_slices),
                  static_cast<unsigned>(call.n_filters / kTileChannels * n_channel_tiles));
  kernel<<<grid, kThreads, kBytes, stream>>>(call, static_cast<int>(n_channel_tiles));
  return cudaGetLastError();
}

template <typename T>
cudaError_t launch_width(const WeightGradientCall& call, cudaStream_t stream) {
  return call.width == 32 ? launch<T, 32>(call, stream) : launch<T, 16>(call, stream);
}

}  // namespace

int64_t weight_gradient_slices(int64_t n_images, int64_t height, int64_t width, int64_t n_filters, int64_t n_channels) {
  const int64_t rows = kTilePixels / width, n_tiles = n_images * ((height + rows - 1) / rows);
  const int64_t n_pairs = n_filters / kTileChannels * (n_channels / kTileChannels);
  return std::min(n_tiles, std::max<int64_t>(1, kBlocks / n_pairs));
}

cudaError_t weight_gradient(const WeightGradientCall& call, Dtype dtype, cudaStream_t stream) {
  return dtype == Dtype::kHalf ? launch_width<__half>(call, stream) : launch_width<__nv_bfloat16>(call, stream);
}

}  // namespace pydyn::cuda
