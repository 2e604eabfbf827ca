// Tiles of channels-last images in shared memory, and the matrix units' way to read them.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace pydyn::cuda {

// Channels of a pixel that a tile holds: 64 bytes of half precision, in four chunks.
constexpr int kTileChannels = 32;
constexpr int kChunks = 4;
constexpr int kChunkBytes = 16;
constexpr int kPixelBytes = kChunks * kChunkBytes;

// Pixels after which chunks lie in the same order again.
constexpr int kTurn = 8;

// Where a pixel's chunk lies. Eight neighbours are read at once, a chunk of each: the chunks are turned so that these
// lie in different banks, wherever the first one is.
__device__ __forceinline__ uint32_t place_in_tile(int pixel, int chunk) {
  return static_cast<uint32_t>(pixel * kPixelBytes + ((chunk ^ (pixel >> 1)) & 3) * kChunkBytes);
}

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Copies a chunk without waiting for it, or writes zeros.
__device__ __forceinline__ void copy_chunk(uint32_t to, const void* from, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(exists ? kChunkBytes : 0)
               : "memory");
}
__device__ __forceinline__ void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until no more than so many ends of copies are outstanding.
template <int kLeft>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

// Four matrices of 8 x 8 numbers; their rows' addresses are of eight threads each.
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&to)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}

// sums (16, 8) += left (16, 16) right (16, 8)
__device__ __forceinline__ void multiply(float (&sums)[4], const uint32_t (&left)[4], uint32_t right_0,
                                         uint32_t right_1, __nv_bfloat16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
}
__device__ __forceinline__ void multiply(float (&sums)[4], const uint32_t (&left)[4], uint32_t right_0,
                                         uint32_t right_1, __half) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
}

// Lets a kernel take so much shared memory; for all calls alike, since threads may call at once.
template <typename Kernel>
cudaError_t allow_shared(Kernel kernel, int bytes) {
  int device = 0, room = 0;
  cudaFuncAttributes attributes{};
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&room, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) return error;
  if (attributes.ptxVersion < 80) return cudaErrorNoKernelImageForDevice;
  if (room < bytes) return cudaErrorNotSupported;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

// A tile: whole rows of an image, 256 pixels of it, with a row above and one below, and a column of zeros on either
// side. The next row starts a whole turn of chunks later.
constexpr int kTilePixels = 256;
constexpr int kTaps = 3;      // in each direction
constexpr int kFragment = 8;  // the side of the matrices that are loaded
constexpr int kStep = 16;     // numbers that the matrix units sum up at once

template <int kWidth>
struct Tile {
  static constexpr int kRows = kTilePixels / kWidth;
  static constexpr int kPaddedWidth = kWidth + kTurn;
  static constexpr uint32_t kRowBytes = kPaddedWidth * kPixelBytes;
  static constexpr uint32_t kBytes = (kRows + 2) * kRowBytes;
  static_assert(kWidth % kTurn == 0);
};

// The columns of zeros, which copies leave as they are.
template <int kWidth, int kThreads>
__device__ __forceinline__ void clear_margins(char* tile) {
  constexpr int kCleared = (Tile<kWidth>::kRows + 2) * 2 * kChunks;
  for (int i = static_cast<int>(threadIdx.x); i < kCleared; i += kThreads) {
    const int row = i / (2 * kChunks), column = i / kChunks % 2 * (kWidth + 1);
    *reinterpret_cast<uint4*>(tile + row * Tile<kWidth>::kRowBytes + place_in_tile(column, i % kChunks)) =
        uint4{0, 0, 0, 0};
  }
}

// A thread's chunks of 32 channels of a tile: of so many rows from `top`, less a margin; zeros where there is no
// image.
template <int kWidth, int kThreads, int kRows, int kMargin, uint32_t kRowBytes>
__device__ __forceinline__ void copy_rows(const void* images, int64_t image, int top, int height, int64_t n_channels,
                                          int64_t channel, uint32_t to) {
  constexpr int kRowsAtOnce = kThreads / (kWidth * kChunks);
  static_assert(kThreads % (kWidth * kChunks) == 0);
  const int thread = static_cast<int>(threadIdx.x);
  const int first = thread / (kWidth * kChunks), x = thread / kChunks % kWidth, chunk = thread % kChunks;
  const int64_t row_bytes = kWidth * n_channels * 2;
  const char* const corner = static_cast<const char*>(images) + (image * height + top - kMargin) * row_bytes +
                             (x * n_channels + channel) * 2 + chunk * kChunkBytes;
  const uint32_t place = to + place_in_tile(x + kMargin, chunk);
#pragma unroll
  for (int turn = 0; turn * kRowsAtOnce < kRows; ++turn) {
    const int row = first + turn * kRowsAtOnce;
    if (row >= kRows) break;
    const bool exists = static_cast<unsigned>(top + row - kMargin) < static_cast<unsigned>(height);
    copy_chunk(place + row * kRowBytes, exists ? corner + row * row_bytes : images, exists);
  }
}

}  // namespace pydyn::cuda
