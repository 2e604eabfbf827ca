#include <algorithm>

#include "conv_3x3.h"
#include "reals.h"
#include "tiles.h"

namespace pydyn::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kStages = 2;                               // tiles in shared memory: one is read while the other comes
constexpr int kParts = kTilePixels / kWarps / kStep;     // of a warp's pixels
constexpr int kFilterParts = kTileChannels / kFragment;  // of a block's filters
constexpr int kDepth = kTaps * kTaps;
// Blocks stay, each with tile after tile: up to three on each of an H100's multiprocessors, as far as shared memory
// goes.
constexpr int64_t kMultiprocessors = 132, kMaxOfOne = 3, kSharedOfOne = 228 * 1024, kTakenBySystem = 1024;

// A filter's weights are a chunk longer than they need be, so that those of eight lie in different banks.
__host__ __device__ constexpr int pitch_of(int n_channels) { return kDepth * n_channels * 2 + kChunkBytes; }

// The order of filters in shared memory: a thread's results are then of eight neighbours.
__device__ __forceinline__ int row_of_filter(int filter) {
  return filter % 8 / 2 * kFragment + filter / 8 * 2 + filter % 2;
}

// The weights of 32 filters, as (filter, tap, channel). Transposed, what is read is (channel, tap from the last,
// filter).
template <typename T>
__device__ __forceinline__ void copy_weights(const ConvCall& call, int64_t filter, char* to) {
  constexpr int kCount = 8;
  const int channels = static_cast<int>(call.n_channels), pitch = pitch_of(channels);
  const auto* const weight = static_cast<const T*>(call.weight);
#pragma unroll 3
  for (int i = static_cast<int>(threadIdx.x); i < kTileChannels * kDepth * channels / kCount; i += kThreads) {
    if (call.transposed) {
      const int row = i / (kTileChannels / kCount), first = i % (kTileChannels / kCount) * kCount;
      const auto read = *reinterpret_cast<const Pack<T, kCount>*>(weight + row * call.n_filters + filter + first);
      const int place = (kDepth - 1 - row % kDepth) * channels + row / kDepth;
#pragma unroll
      for (int k = 0; k < kCount; ++k)
        reinterpret_cast<T*>(to + row_of_filter(first + k) * pitch)[place] = read.element[k];
    } else {
      const int packs = kDepth * channels / kCount, row = i / packs, place = i % packs;
      reinterpret_cast<Pack<T, kCount>*>(to + row_of_filter(row) * pitch)[place] =
          reinterpret_cast<const Pack<T, kCount>*>(weight + (filter + row) * kDepth * channels)[place];
    }
  }
}

// A block convolves tile after tile for 32 filters, whose weights it keeps. A warp has a quarter of a tile's pixels.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads, 3) conv_kernel(const __grid_constant__ ConvCall call) {
#if __CUDA_ARCH__ >= 800
  using Shape = Tile<kWidth>;
  extern __shared__ __align__(128) char shared[];
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int channels = static_cast<int>(call.n_channels), pitch = pitch_of(channels);
  const int64_t filter = int64_t{blockIdx.y} * kTileChannels;
  const int height = static_cast<int>(call.height), tiles_of_image = (height + Shape::kRows - 1) / Shape::kRows;
  const int n_tiles = static_cast<int>(call.n_images) * tiles_of_image, n_blocks = static_cast<int>(gridDim.x);
  const uint32_t tiles = shared_address(shared);

  // What comes next: a tile's channels, 32 at a time, and then another tile.
  int coming = static_cast<int>(blockIdx.x), coming_channel = 0;
  const auto copy_next = [&](int stage) {
    if (coming < n_tiles) {
      const int image = coming / tiles_of_image, top = (coming - image * tiles_of_image) * Shape::kRows;
      copy_rows<kWidth, kThreads, Shape::kRows + 2, 1, Shape::kRowBytes>(call.images, image, top, height, channels,
                                                                         coming_channel, tiles + stage * Shape::kBytes);
    }
    end_copies();
    coming_channel += kTileChannels;
    if (coming_channel < channels) return;
    coming_channel = 0;
    coming += n_blocks;
  };
  copy_next(0);
  for (int stage = 0; stage < kStages; ++stage) clear_margins<kWidth, kThreads>(shared + stage * Shape::kBytes);
  copy_weights<T>(call, filter, shared + kStages * Shape::kBytes);

  const int64_t own_filter = filter + lane % 4 * 8;
  Pack<T, 8> bias{};
  if (call.bias) bias = *reinterpret_cast<const Pack<T, 8>*>(static_cast<const T*>(call.bias) + own_filter);

  // Where a thread's rows of matrices lie. Those of other parts and taps are whole turns of chunks away.
  const int low = lane % kFragment, middle = lane / kFragment % 2, high = lane / 16;
  const uint32_t of_weights = tiles + kStages * Shape::kBytes + (high * kFragment + low) * pitch + middle * kChunkBytes;
  const int pixel = warp * kParts * kStep;
  uint32_t of_images[kTaps][2];
#pragma unroll
  for (int dx = 0; dx < kTaps; ++dx)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      of_images[dx][half] = tiles + pixel / kWidth * Shape::kRowBytes + place_in_tile(lane % 16 + dx, 2 * half + high);

  int stage = 0;
  for (int tile = static_cast<int>(blockIdx.x); tile < n_tiles; tile += n_blocks) {
    float sums[kParts][kFilterParts][4] = {};
    for (int channel = 0; channel < channels; channel += kTileChannels) {
      wait_for_copies<0>();
      __syncthreads();
      copy_next(1 - stage);
#pragma unroll
      for (int dy = 0; dy < kTaps; ++dy)
#pragma unroll
        for (int dx = 0; dx < kTaps; ++dx)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            uint32_t right[2][4];
            const uint32_t weights = of_weights + ((dy * kTaps + dx) * channels + channel + half * kStep) * 2;
            load_matrices(right[0], weights);
            load_matrices(right[1], weights + kStep * pitch);
#pragma unroll
            for (int part = 0; part < kParts; ++part) {
              constexpr int kOfRow = kWidth / kStep;
              uint32_t left[4];
              load_matrices(left, of_images[dx][half] + stage * Shape::kBytes +
                                      (part / kOfRow + dy) * Shape::kRowBytes + part % kOfRow * kStep * kPixelBytes);
#pragma unroll
              for (int n = 0; n < kFilterParts; ++n)
                multiply(sums[part][n], left, right[n / 2][n % 2 * 2], right[n / 2][n % 2 * 2 + 1], T());
            }
          }
      stage = 1 - stage;
    }

    const int image = tile / tiles_of_image, top = (tile - image * tiles_of_image) * Shape::kRows;
#pragma unroll
    for (int part = 0; part < kParts; ++part)
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const int at = pixel + part * kStep + lower * kFragment + lane / 4;
        if (top + at / kWidth >= height) continue;
        Pack<T, 8> result;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const float value = sums[part][i / 2][2 * lower + i % 2] + to_real(bias.element[i]);
          store(call.relu && value <= 0 ? 0.0f : value, &result.element[i]);  // a NaN stays one
        }
        const int64_t place = (int64_t{image * height + top} * kWidth + at) * call.n_filters + own_filter;
        *reinterpret_cast<Pack<T, 8>*>(static_cast<T*>(call.out) + place) = result;
      }
  }
  wait_for_copies<0>();
#else
  __trap();
#endif
}

template <typename T, int kWidth>
cudaError_t launch(const ConvCall& call, cudaStream_t stream) {
  const int bytes = static_cast<int>(conv_3x3_shared(call.width, call.n_channels));
  const auto kernel = conv_kernel<T, kWidth>;
  const cudaError_t error = allow_shared(kernel, kConvShared);
  if (error != cudaSuccess) return error;
  const int64_t n_tiles = call.n_images * ((call.height + Tile<kWidth>::kRows - 1) / Tile<kWidth>::kRows);
  const int64_t n_groups = call.n_filters / kTileChannels;
  const int64_t n_blocks = kMultiprocessors * std::min(kMaxOfOne, kSharedOfOne / (bytes + kTakenBySystem));
  const dim3 grid(static_cast<unsigned>(std::min(n_tiles, std::max<int64_t>(1, n_blocks / n_groups))),
                  static_cast<unsigned>(n_groups));
  kernel<<<grid, kThreads, bytes, stream>>>(call);
  return cudaGetLastError();
}

template <typename T>
cudaError_t launch_width(const ConvCall& call, cudaStream_t stream) {
  return call.width == 32 ? launch<T, 32>(call, stream) : launch<T, 16>(call, stream);
}

}  // namespace

int64_t conv_3x3_shared(int64_t width, int64_t n_channels) {
  const int64_t tile = width == 32 ? Tile<32>::kBytes : Tile<16>::kBytes;
  return kStages * tile + int64_t{kTileChannels} * pitch_of(static_cast<int>(n_channels));
}

cudaError_t conv_3x3(const ConvCall& call, Dtype dtype, cudaStream_t stream) {
  return dtype == Dtype::kHalf ? launch_width<__half>(call, stream) : launch_width<__nv_bfloat16>(call, stream);
}

}  // namespace pydyn::cuda
