// A release build must not read beyond the matrix either.
#undef NDEBUG
#include <algorithm>
#include <cassert>

#include "gather_rows.h"

namespace pydyn::cuda {
namespace {

constexpr int64_t kThreads = 256;
// A row longer than this many words for each thread is shared out among blocks: few long rows then still fill the GPU.
constexpr int64_t kWordsPerThread = 4;
constexpr int64_t kMaxGridX = 2147483647;
constexpr int64_t kMaxGridY = 65535;

constexpr int64_t divide_up(int64_t total, int64_t part) { return (total + part - 1) / part; }

// blockDim.x threads copy one row, blockDim.y rows a block; gridDim.y blocks share a row.
template <typename Word>
__global__ void __launch_bounds__(kThreads)
    gather_rows_kernel(Word* __restrict__ out, const Word* __restrict__ matrix, const int64_t* __restrict__ index,
                       int64_t n_rows, int64_t n_out, int64_t row_words, int64_t index_stride) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const int64_t first_word = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  for (int64_t position = first; position < n_out; position += static_cast<int64_t>(gridDim.x) * blockDim.y) {
    const int64_t row = index[position * index_stride];
    assert(row >= 0 && row < n_rows && "gather_rows: index out of range");
    const Word* const from = matrix + row * row_words;
    Word* const to = out + position * row_words;
#pragma unroll 4
    for (int64_t word = first_word; word < row_words; word += static_cast<int64_t>(gridDim.y) * blockDim.x) {
      to[word] = from[word];
    }
  }
}

template <typename Word>
cudaError_t launch(void* out, const void* matrix, const int64_t* index, int64_t n_rows, int64_t n_out,
                   int64_t row_bytes, int64_t index_stride, cudaStream_t stream) {
  const int64_t row_words = row_bytes / static_cast<int64_t>(sizeof(Word));
  int64_t threads_a_row = 1;
  while (threads_a_row < row_words && threads_a_row < kThreads) threads_a_row *= 2;
  const int64_t rows_a_block = kThreads / threads_a_row;
  const int64_t blocks_a_row = std::max<int64_t>(1, divide_up(row_words, threads_a_row * kWordsPerThread));

  const dim3 block(static_cast<unsigned>(threads_a_row), static_cast<unsigned>(rows_a_block));
  const dim3 grid(static_cast<unsigned>(std::min(divide_up(n_out, rows_a_block), kMaxGridX)),
                  static_cast<unsigned>(std::min(blocks_a_row, kMaxGridY)));
  gather_rows_kernel<Word><<<grid, block, 0, stream>>>(static_cast<Word*>(out), static_cast<const Word*>(matrix), index,
                                                       n_rows, n_out, row_words, index_stride);
  return cudaGetLastError();
}

}  // namespace

cudaError_t gather_rows(void* out, const void* matrix, const int64_t* index, int64_t n_rows, int64_t n_out,
                        int64_t row_bytes, int64_t index_stride, cudaStream_t stream) {
  if (n_out == 0) return cudaSuccess;
  const uint64_t alignment =
      reinterpret_cast<uintptr_t>(out) | reinterpret_cast<uintptr_t>(matrix) | static_cast<uint64_t>(row_bytes);
  const auto launch_widest = alignment % 16 == 0  ? launch<uint4>
                             : alignment % 8 == 0 ? launch<uint2>
                             : alignment % 4 == 0 ? launch<uint32_t>
                             : alignment % 2 == 0 ? launch<uint16_t>
                                                  : launch<uint8_t>;
  return launch_widest(out, matrix, index, n_rows, n_out, row_bytes, index_stride, stream);
}

}  // namespace pydyn::cuda
