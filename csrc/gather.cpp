#include "gather.h"

#include <ATen/core/DimVector.h>
#include <c10/util/Exception.h>

namespace pydyn {

RowGather prepare_gather_rows(const at::Tensor& matrix, const at::Tensor& index) {
  TORCH_CHECK_VALUE(matrix.dim() >= 1, "gather_rows: matrix must have at least 1 dimension (rows first), got a scalar");
  TORCH_CHECK_VALUE(index.dim() == 1, "gather_rows: index must have 1 dimension, got shape ", index.sizes());
  TORCH_CHECK_TYPE(index.scalar_type() == at::kLong, "gather_rows: index must be int64, got ", index.scalar_type());
  TORCH_CHECK_VALUE(matrix.is_contiguous(), "gather_rows: matrix must be contiguous, got shape ", matrix.sizes(),
                    " with strides ", matrix.strides(), "; call matrix.contiguous() once, outside the loop");
  TORCH_CHECK_INDEX(matrix.size(0) > 0 || index.size(0) == 0, "gather_rows: index has ", index.size(0),
                    " elements, but matrix has no rows");

  at::DimVector sizes(matrix.sizes());
  sizes[0] = index.size(0);
  int64_t row_bytes = matrix.element_size();
  for (int64_t dim = 1; dim < matrix.dim(); ++dim) row_bytes *= matrix.size(dim);
  return {matrix.new_empty(sizes), matrix.size(0), index.size(0), row_bytes, index.stride(0)};
}

}  // namespace pydyn
