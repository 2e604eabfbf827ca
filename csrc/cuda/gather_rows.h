// Free of torch, so that any nvcc compiles the kernel in seconds. The maths: ../gather.h.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace pydyn::cuda {

// Enqueues the gather on `stream`; all pointers are to device memory. An index out of range stops the kernel with a
// device-side assert, which the next synchronising call reports.
cudaError_t gather_rows(void* out, const void* matrix, const int64_t* index, int64_t n_rows, int64_t n_out,
                        int64_t row_bytes, int64_t index_stride, cudaStream_t stream);

}  // namespace pydyn::cuda
