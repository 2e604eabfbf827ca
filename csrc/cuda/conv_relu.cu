#include <cstdint>

#include "columns.h"
#include "conv_relu.h"
#include "reals.h"

namespace pydyn::cuda {
namespace {

constexpr int kNone = 4;

// The channels' sums of a block's threads, from top to bottom, into the block's row of partial sums.
template <typename S, int kCount>
__device__ void sum_up(const S (&sums)[kCount], S* partial_sums, int64_t n_channels) {
  __shared__ S of_threads[kThreads * kCount];
  const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  const int columns = static_cast<int>(blockDim.x) * kCount;
#pragma unroll
  for (int i = 0; i < kCount; ++i) of_threads[thread * kCount + i] = sums[i];
  __syncthreads();
  for (int column = thread; column < columns; column += static_cast<int>(blockDim.x * blockDim.y)) {
    S sum = 0;
    for (int row = 0; row < static_cast<int>(blockDim.y); ++row) sum += of_threads[row * columns + column];
    const int64_t channel = int64_t{blockIdx.y} * columns + column;
    if (channel < n_channels) partial_sums[blockIdx.x * n_channels + channel] = sum;
  }
}

template <typename T, int kCount>
__global__ void __launch_bounds__(kThreads)
    relu_backward_kernel(const __grid_constant__ BackwardCall call, int64_t n_packs) {
  const int64_t pack = own_pack(), n_pixels = call.n_images * call.height * call.width;
  Sum<T> sums[kCount] = {};
  const auto* const gradients = static_cast<const Pack<T, kCount>*>(call.gradient);
  const auto* const activations = static_cast<const Pack<T, kCount>*>(call.activations);
  auto* const out = static_cast<Pack<T, kCount>*>(call.units_gradient);
  for (int64_t pixel = first_pixel(); pack < n_packs && pixel < n_pixels; pixel += pixel_stride()) {
    const int64_t place = pixel * n_packs + pack;
    Pack<T, kCount> gradient = gradients[place];
    const Pack<T, kCount> activation = activations[place];
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (to_real(activation.element[i]) <= 0) store(Sum<T>(0), &gradient.element[i]);
      sums[i] += to_real(gradient.element[i]);
    }
    out[place] = gradient;
  }
  sum_up<Sum<T>, kCount>(sums, static_cast<Sum<T>*>(call.partial_sums), call.n_channels);
}

// Where the pixels of windows of 2 x 2 lie. There are fewer than 2^31 windows.
struct Windows {
  int64_t n, width;
  uint32_t rows, columns, height;

  template <typename Call>
  explicit __host__ __device__ Windows(const Call& call)
      : n(call.n_images * (call.height / 2) * (call.width / 2)),
        width(call.width),
        rows(static_cast<uint32_t>(call.height / 2)),
        columns(static_cast<uint32_t>(call.width / 2)),
        height(static_cast<uint32_t>(call.height)) {}

  __device__ __forceinline__ int64_t corner(int64_t window) const {
    const uint32_t row = static_cast<uint32_t>(window) / columns,
                   column = static_cast<uint32_t>(window) - row * columns;
    const uint32_t image = row / rows, y = row - image * rows;
    return (int64_t{image} * height + 2 * y) * width + 2 * column;
  }
  __device__ __forceinline__ int64_t offset(int position) const { return position / 2 * width + position % 2; }
};

template <typename T>
__device__ __forceinline__ T activation_of(T unit, Sum<T> bias) {
  const Sum<T> value = to_real(unit) + bias;
  T rounded;
  store(value <= 0 ? Sum<T>(0) : value, &rounded);  // a NaN stays one
  return rounded;
}

template <typename T, int kCount>
__global__ void __launch_bounds__(kThreads)
    bias_relu_max_pool_kernel(const __grid_constant__ MaxPoolCall call, int64_t n_packs) {
  const int64_t pack = own_pack();
  if (pack >= n_packs) return;
  const Windows windows(call);
  Sum<T> bias[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) bias[i] = static_cast<const Sum<T>*>(call.bias)[pack * kCount + i];
  const auto* const units = static_cast<const Pack<T, kCount>*>(call.units);
  for (int64_t window = first_pixel(); window < windows.n; window += pixel_stride()) {
    const int64_t corner = windows.corner(window);
    Pack<T, kCount> pixels[4];
#pragma unroll
    for (int position = 0; position < 4; ++position)
      pixels[position] = units[(corner + windows.offset(position)) * n_packs + pack];
    Pack<T, kCount> best;
    Pack<uint8_t, kCount> winner;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      store(Sum<T>(0), &best.element[i]);
      winner.element[i] = kNone;
#pragma unroll
      for (int position = 0; position < 4; ++position) {
        const T value = activation_of(pixels[position].element[i], bias[i]);
        const Sum<T> real = to_real(value), highest = to_real(best.element[i]);
        if (real > highest || (real != real && highest == highest)) {
          best.element[i] = value;
          winner.element[i] = static_cast<uint8_t>(position);
        }
      }
    }
    static_cast<Pack<T, kCount>*>(call.pooled)[window * n_packs + pack] = best;
    reinterpret_cast<Pack<uint8_t, kCount>*>(call.winner)[window * n_packs + pack] = winner;
  }
}

template <typename T, int kCount>
__global__ void __launch_bounds__(kThreads)
    bias_relu_max_pool_backward_kernel(const __grid_constant__ BackwardCall call, int64_t n_packs) {
  const int64_t pack = own_pack();
  const Windows windows(call);
  Sum<T> sums[kCount] = {};
  auto* const units = static_cast<Pack<T, kCount>*>(call.units_gradient);
  for (int64_t window = first_pixel(); pack < n_packs && window < windows.n; window += pixel_stride()) {
    const auto gradient = static_cast<const Pack<T, kCount>*>(call.gradient)[window * n_packs + pack];
    const auto winner = reinterpret_cast<const Pack<uint8_t, kCount>*>(call.winner)[window * n_packs + pack];
    const int64_t corner = windows.corner(window);
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (winner.element[i] != kNone) sums[i] += to_real(gradient.element[i]);
#pragma unroll
    for (int position = 0; position < 4; ++position) {
      Pack<T, kCount> spread = gradient;
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (winner.element[i] != position) store(Sum<T>(0), &spread.element[i]);
      units[(corner + windows.offset(position)) * n_packs + pack] = spread;
    }
  }
  sum_up<Sum<T>, kCount>(sums, static_cast<Sum<T>*>(call.partial_sums), call.n_channels);
}

constexpr int kLanes = 32;

// Sums of columns, in an order that depends on the number of rows alone.
template <typename S>
__global__ void __launch_bounds__(kLanes* kLanes)
    sum_rows_kernel(const S* rows, S* sums, int64_t n_rows, int64_t n_columns) {
  __shared__ S of_lanes[kLanes][kLanes];
  const int64_t column = int64_t{blockIdx.x} * kLanes + threadIdx.x;
  S sum = 0;
  if (column < n_columns)
    for (int64_t row = threadIdx.y; row < n_rows; row += kLanes) sum += rows[row * n_columns + column];
  of_lanes[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= n_columns) return;
  for (int lane = 1; lane < kLanes; ++lane) sum += of_lanes[lane][threadIdx.x];
  sums[column] = sum;
}

template <typename S>
cudaError_t launch_sum_rows(const void* rows, void* sums, int64_t n_rows, int64_t n_columns, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((n_columns + kLanes - 1) / kLanes));
  sum_rows_kernel<S><<<grid, dim3(kLanes, kLanes), 0, stream>>>(static_cast<const S*>(rows), static_cast<S*>(sums),
                                                                n_rows, n_columns);
  return cudaGetLastError();
}

bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

bool is_aligned(const BackwardCall& call) {
  return is_aligned(call.units_gradient) && is_aligned(call.gradient) && is_aligned(call.activations) &&
         is_aligned(call.winner);
}

bool is_aligned(const MaxPoolCall& call) {
  return is_aligned(call.units) && is_aligned(call.pooled) && is_aligned(call.winner);
}

template <typename T, int kCount>
struct ReluBackward {
  static void launch(const BackwardCall& call, cudaStream_t stream) {
    const Layout layout(call.n_rows, call.n_channels, kCount);
    relu_backward_kernel<T, kCount><<<layout.grid, layout.block, 0, stream>>>(call, layout.n_packs);
  }
};

template <typename T, int kCount>
struct MaxPoolForward {
  static void launch(const MaxPoolCall& call, cudaStream_t stream) {
    const int64_t rows = Layout::rows_for(Windows(call).n, call.n_channels, kCount);
    const Layout layout(rows, call.n_channels, kCount);
    bias_relu_max_pool_kernel<T, kCount><<<layout.grid, layout.block, 0, stream>>>(call, layout.n_packs);
  }
};

template <typename T, int kCount>
struct MaxPoolBackward {
  static void launch(const BackwardCall& call, cudaStream_t stream) {
    const Layout layout(call.n_rows, call.n_channels, kCount);
    bias_relu_max_pool_backward_kernel<T, kCount><<<layout.grid, layout.block, 0, stream>>>(call, layout.n_packs);
  }
};

template <template <typename, int> typename Kernel, typename T, typename Call>
cudaError_t launch_widest(const Call& call, cudaStream_t stream) {
  constexpr int kCount = 16 / sizeof(T);
  if (is_aligned(call) && call.n_channels % kCount == 0)
    Kernel<T, kCount>::launch(call, stream);
  else
    Kernel<T, 1>::launch(call, stream);
  return cudaGetLastError();
}

template <template <typename, int> typename Kernel, typename Call>
cudaError_t launch(const Call& call, Dtype dtype, cudaStream_t stream) {
  return with_number_of(dtype, [&](auto number) { return launch_widest<Kernel, decltype(number)>(call, stream); });
}

}  // namespace

cudaError_t relu_backward(const BackwardCall& call, Dtype dtype, cudaStream_t stream) {
  return launch<ReluBackward>(call, dtype, stream);
}

cudaError_t bias_relu_max_pool(const MaxPoolCall& call, Dtype dtype, cudaStream_t stream) {
  return launch<MaxPoolForward>(call, dtype, stream);
}

cudaError_t bias_relu_max_pool_backward(const BackwardCall& call, Dtype dtype, cudaStream_t stream) {
  return launch<MaxPoolBackward>(call, dtype, stream);
}

cudaError_t sum_rows(const void* rows, void* sums, int64_t n_rows, int64_t n_columns, Dtype dtype,
                     cudaStream_t stream) {
  return dtype == Dtype::kDouble ? launch_sum_rows<double>(rows, sums, n_rows, n_columns, stream)
                                 : launch_sum_rows<float>(rows, sums, n_rows, n_columns, stream);
}

}  // namespace pydyn::cuda
