#include "gather.h"

#include <ATen/core/DimVector.h>
#include <c10/util/Exception.h>

namespace pydyn {
namespace {

bool castable(at::ScalarType dtype) { return dtype == at::kHalf || dtype == at::kBFloat16 || dtype == at::kFloat; }

}  // namespace

RowGather prepare_gather_rows(const at::Tensor& matrix, const at::Tensor& index,
                              const std::optional<at::Tensor>& labels, std::optional<at::ScalarType> dtype) {
  TORCH_CHECK_VALUE(matrix.dim() >= 1, "gather_rows: matrix must have at least 1 dimension (rows first), got a scalar");
  TORCH_CHECK_VALUE(index.dim() == 1, "gather_rows: index must have 1 dimension, got shape ", index.sizes());
  TORCH_CHECK_TYPE(index.scalar_type() == at::kLong, "gather_rows: index must be int64, got ", index.scalar_type());
  TORCH_CHECK_VALUE(matrix.is_contiguous(), "gather_rows: matrix must be contiguous, got shape ", matrix.sizes(),
                    " with strides ", matrix.strides(), "; call matrix.contiguous() once, outside the loop");
  TORCH_CHECK_INDEX(matrix.size(0) > 0 || index.size(0) == 0, "gather_rows: index has ", index.size(0),
                    " elements, but matrix has no rows");
  const at::ScalarType out_dtype = dtype.value_or(matrix.scalar_type());
  const bool cast = out_dtype != matrix.scalar_type();
  TORCH_CHECK_TYPE(!cast || (castable(matrix.scalar_type()) && castable(out_dtype)),
                   "gather_rows: only float16, bfloat16 and float32 are cast into each other, got matrix of ",
                   matrix.scalar_type(), " and dtype = ", out_dtype);
  if (labels.has_value()) {
    TORCH_CHECK_TYPE(labels->scalar_type() == at::kLong, "gather_rows: labels must be int64, got ",
                     labels->scalar_type());
    TORCH_CHECK_VALUE(labels->dim() == 1 && labels->size(0) == matrix.size(0) && labels->is_contiguous(),
                      "gather_rows: labels must be contiguous of shape [", matrix.size(0), "], got ", labels->sizes());
    TORCH_CHECK_VALUE(labels->device() == matrix.device(), "gather_rows: matrix is on ", matrix.device(),
                      " and labels on ", labels->device(), "; put both on one device");
  }

  at::DimVector sizes(matrix.sizes());
  sizes[0] = index.size(0);
  int64_t row_elements = 1;
  for (int64_t dim = 1; dim < matrix.dim(); ++dim) row_elements *= matrix.size(dim);
  return {matrix.new_empty(sizes, out_dtype),
          index.new_empty({labels.has_value() ? index.size(0) : 0}),
          matrix.size(0),
          index.size(0),
          row_elements,
          row_elements * static_cast<int64_t>(matrix.element_size()),
          index.stride(0),
          cast};
}

}  // namespace pydyn
