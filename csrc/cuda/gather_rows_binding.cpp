#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../gather.h"
#include "gather_rows.h"

namespace pydyn {
namespace {

at::Tensor gather_rows_cuda(const at::Tensor& matrix, const at::Tensor& index) {
  TORCH_CHECK_VALUE(matrix.device() == index.device(), "gather_rows: matrix is on ", matrix.device(), " and index on ",
                    index.device(), "; put both on one device");
  const c10::cuda::CUDAGuard guard(matrix.device());
  const RowGather rows = prepare_gather_rows(matrix, index);
  C10_CUDA_CHECK(cuda::gather_rows(rows.out.mutable_data_ptr(), matrix.const_data_ptr(),
                                   index.const_data_ptr<int64_t>(), rows.n_rows, rows.n_out, rows.row_bytes,
                                   rows.index_stride, c10::cuda::getCurrentCUDAStream()));
  return rows.out;
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CUDA, library) { library.impl("gather_rows", &gather_rows_cuda); }

}  // namespace pydyn
