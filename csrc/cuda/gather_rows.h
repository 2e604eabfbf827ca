// Free of torch, so that any nvcc compiles the kernel in seconds. The maths: ../gather.h.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "dtype.h"

namespace pydyn::cuda {

// All pointers are to device memory.
struct RowGatherCall {
  void* out;
  const void* matrix;
  const int64_t* index;
  int64_t* out_labels;  // or null
  const int64_t* labels;
  int64_t n_rows;
  int64_t n_out;
  int64_t row_elements;
  int64_t row_bytes;  // of matrix
  int64_t index_stride;
};

// Enqueue the gather on `stream`. An index out of range stops the kernel with a device-side assert, which the next
// synchronising call reports.
cudaError_t gather_rows(const RowGatherCall& call, cudaStream_t stream);
cudaError_t gather_rows_cast(const RowGatherCall& call, Dtype from, Dtype to, cudaStream_t stream);

}  // namespace pydyn::cuda
