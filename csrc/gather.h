// Gather of rows, the way a batch leaves a pool of images, labels or features:
//
//     out[i, ...] = matrix[index[i], ...]    for 0 <= i < B, 0 <= index[i] < N
//
//     matrix  (N, ...)  any dtype, contiguous: a row is `row_bytes` adjacent bytes, whatever they mean
//     index   (B,)      int64, any stride, repeats allowed
//     out     (B, ...)  matrix's dtype and device, contiguous
//
// It moves 2 * B * row_bytes bytes and computes nothing, so memory bandwidth is its limit.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace pydyn {

struct RowGather {
  at::Tensor out;
  int64_t n_rows;  // N
  int64_t n_out;   // B
  int64_t row_bytes;
  int64_t index_stride;  // in elements
};

// Refuses what no device can gather (ranks, dtype, layout) and allocates `out`. The range of the indices is left to the
// device that reads them.
RowGather prepare_gather_rows(const at::Tensor& matrix, const at::Tensor& index);

}  // namespace pydyn
