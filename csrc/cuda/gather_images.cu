// A release build must not read beyond the pool either.
#undef NDEBUG
#include <algorithm>
#include <cassert>

#include "gather_images.h"
#include "reals.h"

namespace pydyn::cuda {
namespace {

constexpr int64_t kThreads = 128;
// Of an image: blocks share it, so that a batch of small images fills the GPU at once.
constexpr int64_t kPacksPerThread = 1;
constexpr int64_t kMaxGridX = 2147483647;
constexpr int64_t kMaxGridY = 65535;

constexpr int64_t divide_up(int64_t total, int64_t part) { return (total + part - 1) / part; }

// A place in an output image that goes through it in the order of its memory: dividing is slow, so it is done once a
// pack.
template <bool kChannelsLast>
struct Walk {
  uint32_t height, width, channels, y, x, channel;

  __device__ __forceinline__ Walk(const Augmentation& augmentation, uint32_t element)
      : height(static_cast<uint32_t>(augmentation.height)),
        width(static_cast<uint32_t>(augmentation.width)),
        channels(static_cast<uint32_t>(augmentation.channels)) {
    const uint32_t rest = kChannelsLast ? element / channels : element / width;
    channel = kChannelsLast ? element - rest * channels : rest / height;
    x = kChannelsLast ? rest % width : element - rest * width;
    y = kChannelsLast ? rest / width : rest - channel * height;
  }

  __device__ __forceinline__ void next() {
    if (kChannelsLast) {
      if (++channel < channels) return;
      channel = 0;
    }
    if (++x < width) return;
    x = 0;
    if (++y < height) return;
    y = 0;
    if (!kChannelsLast) ++channel;
  }
};

// Where an output pixel's bytes are in an image that is cropped and flipped, or -1 if it is black. An image has fewer
// than 2^31 bytes.
struct Crop {
  int height, width, channels, dy, first, direction;
  Padding padding;

  __device__ __forceinline__ Crop(const Augmentation& augmentation, const Placement& placement)
      : height(static_cast<int>(augmentation.height)),
        width(static_cast<int>(augmentation.width)),
        channels(static_cast<int>(augmentation.channels)),
        dy(static_cast<int>(placement.dy)),
        first(static_cast<int>(placement.dx) + (placement.flipped ? width - 1 : 0)),
        direction(placement.flipped ? -1 : 1),
        padding(augmentation.padding) {}

  __device__ __forceinline__ int source(uint32_t y, uint32_t x, uint32_t channel) const {
    int source_y = static_cast<int>(y) + dy, source_x = static_cast<int>(x) * direction + first;
    const bool is_inside = static_cast<unsigned>(source_y) < static_cast<unsigned>(height) &&
                           static_cast<unsigned>(source_x) < static_cast<unsigned>(width);
    if (!is_inside) {
      if (padding == Padding::kZeros) return -1;
      source_y = static_cast<int>(inside(source_y, height, padding));
      source_x = static_cast<int>(inside(source_x, width, padding));
    }
    return (source_y * width + source_x) * channels + static_cast<int>(channel);
  }
};

__device__ __forceinline__ float warped(const Augmentation& augmentation, const Placement& placement,
                                        const uint8_t* image, uint32_t y, uint32_t x, uint32_t channel) {
  int64_t source_y, source_x;
  source_of(augmentation, placement, y, x, source_y, source_x);
  const Taps taps = taps_at(augmentation, source_y, source_x);
  return __fmul_rn(static_cast<float>(value_at(augmentation, image, taps, channel)), 1.0f / kOne);
}

// gridDim.y blocks share an image. Writes are of whole packs; reads are of bytes that neighbours share cache lines
// with.
template <typename Out, int kCount, bool kChannelsLast, bool kWarp>
__global__ void __launch_bounds__(kThreads) gather_images_kernel(const __grid_constant__ ImageGatherCall call) {
  __shared__ Placement placement;
  __shared__ int64_t sample;
  __shared__ float offset[kMaxChannels], scale[kMaxChannels];
  const Augmentation& augmentation = call.augmentation;
  const uint32_t n_elements = static_cast<uint32_t>(augmentation.height * augmentation.width * augmentation.channels);
  const uint32_t n_packs = n_elements / kCount;
  if (threadIdx.x < kMaxChannels) {
    offset[threadIdx.x] = augmentation.offset[threadIdx.x];
    scale[threadIdx.x] = augmentation.scale[threadIdx.x];
  }
  for (int64_t position = blockIdx.x; position < call.n_out; position += gridDim.x) {
    if (threadIdx.x == 0) {
      const uint32_t epoch = call.epoch_on_device ? static_cast<uint32_t>(*call.epoch_on_device) : call.epoch;
      sample = call.index[position * call.index_stride];
      assert(sample >= 0 && sample < call.n_images && "gather_images: index out of range");
      placement = place(augmentation, sample, epoch);
    }
    __syncthreads();
    const uint8_t* const image = call.images + sample * n_elements;
    Pack<Out, kCount>* const out = static_cast<Pack<Out, kCount>*>(call.out) + position * n_packs;
    const Crop crop(augmentation, placement);
    for (uint32_t pack = blockIdx.y * kThreads + threadIdx.x; pack < n_packs; pack += gridDim.y * kThreads) {
      Walk<kChannelsLast> at(augmentation, pack * kCount);
      int source[kCount];
      uint32_t channel[kCount];
      float value[kCount];
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        channel[i] = at.channel;
        if constexpr (kWarp)
          value[i] = warped(augmentation, placement, image, at.y, at.x, at.channel);
        else
          source[i] = crop.source(at.y, at.x, at.channel);
        at.next();
      }
      // Bytes are asked for at once, not one after the other.
      if constexpr (!kWarp) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) value[i] = source[i] < 0 ? 0.0f : static_cast<float>(image[source[i]]);
      }
      Pack<Out, kCount> written;
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        store(__fmul_rn(__fsub_rn(value[i], offset[channel[i]]), scale[channel[i]]), &written.element[i]);
      out[pack] = written;
    }
    __syncthreads();
  }
}

template <typename Out, int kCount>
cudaError_t launch(const ImageGatherCall& call, cudaStream_t stream) {
  const Augmentation& augmentation = call.augmentation;
  const int64_t n_packs = augmentation.height * augmentation.width * augmentation.channels / kCount;
  const dim3 grid(static_cast<unsigned>(std::min(call.n_out, kMaxGridX)),
                  static_cast<unsigned>(std::min(divide_up(n_packs, kThreads * kPacksPerThread), kMaxGridY)));
  const auto kernel = augmentation.warp    ? call.channels_last ? gather_images_kernel<Out, kCount, true, true>
                                                                : gather_images_kernel<Out, kCount, false, true>
                      : call.channels_last ? gather_images_kernel<Out, kCount, true, false>
                                           : gather_images_kernel<Out, kCount, false, false>;
  kernel<<<grid, static_cast<unsigned>(kThreads), 0, stream>>>(call);
  return cudaGetLastError();
}

template <typename Out>
cudaError_t launch_widest(const ImageGatherCall& call, cudaStream_t stream) {
  constexpr int kCount = 16 / sizeof(Out);
  const Augmentation& augmentation = call.augmentation;
  const int64_t n_elements = augmentation.height * augmentation.width * augmentation.channels;
  const bool aligned = n_elements % kCount == 0 && reinterpret_cast<uintptr_t>(call.out) % 16 == 0;
  return aligned ? launch<Out, kCount>(call, stream) : launch<Out, 1>(call, stream);
}

}  // namespace

cudaError_t gather_images(const ImageGatherCall& call, Dtype out, cudaStream_t stream) {
  if (call.n_out == 0) return cudaSuccess;
  switch (out) {
    case Dtype::kHalf:
      return launch_widest<__half>(call, stream);
    case Dtype::kBFloat16:
      return launch_widest<__nv_bfloat16>(call, stream);
    default:
      return launch_widest<float>(call, stream);
  }
}

}  // namespace pydyn::cuda
