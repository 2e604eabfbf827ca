// Gather of rows, the way a batch leaves a pool of features or images, with its labels:
//
//     out[i, ...] = matrix[index[i], ...]    for 0 <= i < B, 0 <= index[i] < N
//     out_labels[i] = labels[index[i]]
//
//     matrix  (N, ...)  any dtype, contiguous: without a cast a row is `row_bytes` adjacent bytes, whatever they mean;
//                       float16, bfloat16 and float32 may be cast into each other on the way
//     index   (B,)      int64, any stride, repeats allowed
//     labels  (N,)      int64, contiguous; or none
//     out     (B, ...)  matrix's dtype, or the cast's; matrix's device, contiguous
//
// It moves B rows in and out and computes nothing, so memory bandwidth is its limit.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace pydyn {

struct RowGather {
  at::Tensor out;
  at::Tensor out_labels;  // (B,), or (0,) without labels
  int64_t n_rows;         // N
  int64_t n_out;          // B
  int64_t row_elements;
  int64_t row_bytes;     // of matrix
  int64_t index_stride;  // in elements
  bool cast;
};

// Refuses what no device can gather (ranks, dtypes, layout) and allocates the outputs. The range of the indices is left
// to the device that reads them.
RowGather prepare_gather_rows(const at::Tensor& matrix, const at::Tensor& index,
                              const std::optional<at::Tensor>& labels, std::optional<at::ScalarType> dtype);

}  // namespace pydyn
