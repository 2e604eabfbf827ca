#include "columns.h"
#include "conv_relu.h"
#include "reals.h"

namespace pydyn::cuda {
namespace {

// Where a channel of a patch comes from, relative to the patch's corner.
struct Place {
  int32_t offset, dy, dx;  // dy is far above every image if there is no such place
};

constexpr int kPatchPack = 8;

// A thread writes eight channels of a patch, which lie side by side; neighbours read the same few pixels.
template <typename From, typename To>
__global__ void __launch_bounds__(kThreads) patches_kernel(const __grid_constant__ PatchesCall call, int64_t n_packs) {
  extern __shared__ Place places[];
  const int window = static_cast<int>(call.window), channels = static_cast<int>(call.n_channels);
  const int width = static_cast<int>(call.width), height = static_cast<int>(call.height);
  const int stride = static_cast<int>(call.stride), padding = static_cast<int>(call.padding);
  for (int i = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x); i < call.out_channels;
       i += static_cast<int>(blockDim.x * blockDim.y)) {
    const int place = i / channels, dy = place / window, dx = place % window;
    const bool exists = dy < window;
    places[i] = {exists ? (dy * width + dx) * channels + i % channels : 0, exists ? dy : INT32_MIN / 2, dx};
  }
  __syncthreads();

  const uint32_t out_width = static_cast<uint32_t>(call.out_width), out_height = static_cast<uint32_t>(call.out_height);
  const int64_t n_pixels = call.n_images * call.out_height * call.out_width, pack = own_pack();
  for (int64_t pixel = first_pixel(); pack < n_packs && pixel < n_pixels; pixel += pixel_stride()) {
    const uint32_t row = static_cast<uint32_t>(pixel) / out_width, x = static_cast<uint32_t>(pixel) - row * out_width;
    const uint32_t image = row / out_height, y = row - image * out_height;
    const int top = static_cast<int>(y) * stride - padding, left = static_cast<int>(x) * stride - padding;
    const From* const corner =
        static_cast<const From*>(call.images) + ((int64_t{image} * height + top) * width + left) * channels;
    Pack<To, kPatchPack> written;
#pragma unroll
    for (int i = 0; i < kPatchPack; ++i) {
      const Place place = places[pack * kPatchPack + i];
      const bool inside = static_cast<unsigned>(top + place.dy) < static_cast<unsigned>(height) &&
                          static_cast<unsigned>(left + place.dx) < static_cast<unsigned>(width);
      const auto value = inside ? to_real(corner[place.offset]) : Sum<From>(0);
      store(static_cast<Sum<To>>(value), &written.element[i]);
    }
    static_cast<Pack<To, kPatchPack>*>(call.out)[pixel * n_packs + pack] = written;
  }
}

template <typename From, typename To>
cudaError_t launch_patches(const PatchesCall& call, cudaStream_t stream) {
  const int64_t rows =
      Layout::rows_for(call.n_images * call.out_height * call.out_width, call.out_channels, kPatchPack);
  const Layout layout(rows, call.out_channels, kPatchPack);
  const size_t shared = static_cast<size_t>(call.out_channels) * sizeof(Place);
  patches_kernel<From, To><<<layout.grid, layout.block, shared, stream>>>(call, layout.n_packs);
  return cudaGetLastError();
}

}  // namespace

cudaError_t patches(const PatchesCall& call, Dtype from, Dtype to, cudaStream_t stream) {
  return with_number_of(from, [&](auto read) {
    return with_number_of(
        to, [&](auto written) { return launch_patches<decltype(read), decltype(written)>(call, stream); });
  });
}

}  // namespace pydyn::cuda
