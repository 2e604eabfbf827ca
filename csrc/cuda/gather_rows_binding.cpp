#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../gather.h"
#include "binding.h"
#include "gather_rows.h"

namespace pydyn {
namespace {

std::tuple<at::Tensor, at::Tensor> gather_rows_cuda(const at::Tensor& matrix, const at::Tensor& index,
                                                    const std::optional<at::Tensor>& labels,
                                                    std::optional<at::ScalarType> dtype) {
  TORCH_CHECK_VALUE(matrix.device() == index.device(), "gather_rows: matrix is on ", matrix.device(), " and index on ",
                    index.device(), "; put both on one device");
  const c10::cuda::CUDAGuard guard(matrix.device());
  const RowGather rows = prepare_gather_rows(matrix, index, labels, dtype);
  const cuda::RowGatherCall call{rows.out.mutable_data_ptr(),
                                 matrix.const_data_ptr(),
                                 index.const_data_ptr<int64_t>(),
                                 labels.has_value() ? rows.out_labels.mutable_data_ptr<int64_t>() : nullptr,
                                 labels.has_value() ? labels->const_data_ptr<int64_t>() : nullptr,
                                 rows.n_rows,
                                 rows.n_out,
                                 rows.row_elements,
                                 rows.row_bytes,
                                 rows.index_stride};
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
  if (rows.cast) {
    const cuda::Dtype from = cuda::dtype_of(matrix.scalar_type()), to = cuda::dtype_of(rows.out.scalar_type());
    C10_CUDA_CHECK(cuda::gather_rows_cast(call, from, to, stream));
  } else {
    C10_CUDA_CHECK(cuda::gather_rows(call, stream));
  }
  return {rows.out, rows.out_labels};
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CUDA, library) { library.impl("gather_rows", &gather_rows_cuda); }

}  // namespace pydyn
