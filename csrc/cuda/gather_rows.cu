// A release build must not read beyond the matrix either.
#undef NDEBUG
#include <algorithm>
#include <cassert>

#include "gather_rows.h"
#include "reals.h"

namespace pydyn::cuda {
namespace {

constexpr int64_t kThreads = 256;
// A row longer than this many words for each thread is shared out among blocks: few long rows then still fill the GPU.
constexpr int64_t kWordsPerThread = 4;
constexpr int64_t kMaxGridX = 2147483647;
constexpr int64_t kMaxGridY = 65535;

constexpr int64_t divide_up(int64_t total, int64_t part) { return (total + part - 1) / part; }

template <typename Word>
__device__ __forceinline__ void convert(const Word& from, Word& to) {
  to = from;
}
template <typename From, typename To, int kCount>
__device__ __forceinline__ void convert(const Pack<From, kCount>& from, Pack<To, kCount>& to) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) store(to_real(from.element[i]), &to.element[i]);
}

// blockDim.x threads write one row, blockDim.y rows a block; gridDim.y blocks share a row.
template <typename From, typename To>
__global__ void __launch_bounds__(kThreads) gather_rows_kernel(const RowGatherCall call, int64_t row_words) {
  const From* __restrict__ const matrix = static_cast<const From*>(call.matrix);
  To* __restrict__ const out = static_cast<To*>(call.out);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const int64_t first_word = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  for (int64_t position = first; position < call.n_out; position += static_cast<int64_t>(gridDim.x) * blockDim.y) {
    const int64_t row = call.index[position * call.index_stride];
    assert(row >= 0 && row < call.n_rows && "gather_rows: index out of range");
    if (call.labels != nullptr && first_word == 0) call.out_labels[position] = call.labels[row];
#pragma unroll 4
    for (int64_t word = first_word; word < row_words; word += static_cast<int64_t>(gridDim.y) * blockDim.x) {
      convert(matrix[row * row_words + word], out[position * row_words + word]);
    }
  }
}

template <typename From, typename To>
cudaError_t launch(const RowGatherCall& call, cudaStream_t stream) {
  const int64_t row_words = call.row_bytes / static_cast<int64_t>(sizeof(From));
  int64_t threads_a_row = 1;
  while (threads_a_row < row_words && threads_a_row < kThreads) threads_a_row *= 2;
  const int64_t rows_a_block = kThreads / threads_a_row;
  const int64_t blocks_a_row = std::max<int64_t>(1, divide_up(row_words, threads_a_row * kWordsPerThread));

  const dim3 block(static_cast<unsigned>(threads_a_row), static_cast<unsigned>(rows_a_block));
  const dim3 grid(static_cast<unsigned>(std::min(divide_up(call.n_out, rows_a_block), kMaxGridX)),
                  static_cast<unsigned>(std::min(blocks_a_row, kMaxGridY)));
  gather_rows_kernel<From, To><<<grid, block, 0, stream>>>(call, row_words);
  return cudaGetLastError();
}

// As many elements at a time as keep the wider side within 16 bytes.
template <typename From, typename To>
cudaError_t launch_cast(const RowGatherCall& call, cudaStream_t stream) {
  constexpr int kCount = 16 / static_cast<int>(std::max(sizeof(From), sizeof(To)));
  const bool aligned = call.row_elements % kCount == 0 &&
                       reinterpret_cast<uintptr_t>(call.matrix) % (kCount * sizeof(From)) == 0 &&
                       reinterpret_cast<uintptr_t>(call.out) % (kCount * sizeof(To)) == 0;
  if (aligned) return launch<Pack<From, kCount>, Pack<To, kCount>>(call, stream);
  return launch<Pack<From, 1>, Pack<To, 1>>(call, stream);
}

}  // namespace

cudaError_t gather_rows(const RowGatherCall& call, cudaStream_t stream) {
  if (call.n_out == 0) return cudaSuccess;
  const uint64_t alignment = reinterpret_cast<uintptr_t>(call.out) | reinterpret_cast<uintptr_t>(call.matrix) |
                             static_cast<uint64_t>(call.row_bytes);
  const auto launch_widest = alignment % 16 == 0  ? launch<uint4, uint4>
                             : alignment % 8 == 0 ? launch<uint2, uint2>
                             : alignment % 4 == 0 ? launch<uint32_t, uint32_t>
                             : alignment % 2 == 0 ? launch<uint16_t, uint16_t>
                                                  : launch<uint8_t, uint8_t>;
  return launch_widest(call, stream);
}

cudaError_t gather_rows_cast(const RowGatherCall& call, Dtype from, Dtype to, cudaStream_t stream) {
  if (call.n_out == 0) return cudaSuccess;
  if (from == Dtype::kHalf)
    return to == Dtype::kFloat ? launch_cast<__half, float>(call, stream)
                               : launch_cast<__half, __nv_bfloat16>(call, stream);
  if (from == Dtype::kBFloat16)
    return to == Dtype::kFloat ? launch_cast<__nv_bfloat16, float>(call, stream)
                               : launch_cast<__nv_bfloat16, __half>(call, stream);
  return to == Dtype::kHalf ? launch_cast<float, __half>(call, stream)
                            : launch_cast<float, __nv_bfloat16>(call, stream);
}

}  // namespace pydyn::cuda
