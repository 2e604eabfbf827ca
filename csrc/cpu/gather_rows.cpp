#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <type_traits>

#include "../gather.h"

namespace pydyn {
namespace {

// About what one core copies in the time that waking a second one takes.
constexpr int64_t kGrainBytes = int64_t{1} << 16;

// Copies rows [begin, end). Returns the position of the first index out of range, or `end`.
// RowBytes is int64_t, or an integral_constant, with which the copy of a short row is a single move instead of a call.
template <typename RowBytes>
int64_t copy_rows(char* out, const char* matrix, const int64_t* index, const RowGather& rows, RowBytes row_bytes,
                  int64_t begin, int64_t end) {
  for (int64_t position = begin; position < end; ++position) {
    const int64_t row = index[position * rows.index_stride];
    if (row < 0 || row >= rows.n_rows) return position;
    std::memcpy(out + position * row_bytes, matrix + row * row_bytes, static_cast<size_t>(row_bytes));
  }
  return end;
}

template <typename Function>
void with_row_bytes(int64_t row_bytes, const Function& function) {
  switch (row_bytes) {
    case 1:
      return function(std::integral_constant<int64_t, 1>{});
    case 2:
      return function(std::integral_constant<int64_t, 2>{});
    case 4:
      return function(std::integral_constant<int64_t, 4>{});
    case 8:
      return function(std::integral_constant<int64_t, 8>{});
    default:
      return function(row_bytes);
  }
}

at::Tensor gather_rows_cpu(const at::Tensor& matrix, const at::Tensor& index) {
  const RowGather rows = prepare_gather_rows(matrix, index);
  char* const out_bytes = static_cast<char*>(rows.out.mutable_data_ptr());
  const char* const matrix_bytes = static_cast<const char*>(matrix.const_data_ptr());
  const int64_t* const indices = index.const_data_ptr<int64_t>();

  // Threads lower one number instead of throwing: the position named is then the first one, whatever the thread count.
  std::atomic<int64_t> first_bad{rows.n_out};
  const int64_t grain = std::max<int64_t>(1, kGrainBytes / std::max<int64_t>(1, rows.row_bytes));
  with_row_bytes(rows.row_bytes, [&](auto row_bytes) {
    at::parallel_for(0, rows.n_out, grain, [&](int64_t begin, int64_t end) {
      const int64_t stop = copy_rows(out_bytes, matrix_bytes, indices, rows, row_bytes, begin, end);
      if (stop == end) return;
      int64_t lowest = first_bad.load();
      while (stop < lowest && !first_bad.compare_exchange_weak(lowest, stop)) {
      }
    });
  });

  const int64_t bad = first_bad.load();
  if (bad < rows.n_out) {
    TORCH_CHECK_INDEX(false, "gather_rows: index[", bad, "] = ", indices[bad * rows.index_stride],
                      " is out of range: matrix has ", rows.n_rows, " rows, so allowed are 0 to ", rows.n_rows - 1);
  }
  return rows.out;
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CPU, library) { library.impl("gather_rows", &gather_rows_cpu); }

}  // namespace pydyn
