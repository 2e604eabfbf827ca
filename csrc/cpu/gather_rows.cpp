#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <type_traits>

#include "../gather.h"
#include "clones.h"
#include "vector.h"

namespace pydyn {
namespace {

// About what one core copies in the time that waking a second one takes.
constexpr int64_t kGrainBytes = int64_t{1} << 16;

struct Job {
  const RowGather& rows;
  char* out;
  const char* matrix;
  const int64_t* index;
  int64_t* out_labels;  // or null
  const int64_t* labels;
};

// Writes rows [begin, end) by write_row(position, row). Returns the position of the first index out of range, or `end`.
template <typename WriteRow>
inline int64_t each_row(const Job& job, int64_t begin, int64_t end, const WriteRow& write_row) {
  for (int64_t position = begin; position < end; ++position) {
    const int64_t row = job.index[position * job.rows.index_stride];
    if (row < 0 || row >= job.rows.n_rows) return position;
    write_row(position, row);
    if (job.labels) job.out_labels[position] = job.labels[row];
  }
  return end;
}

// RowBytes is int64_t, or an integral_constant, with which the copy of a short row is a single move instead of a call.
template <typename RowBytes>
int64_t copy_rows(const Job& job, RowBytes row_bytes, int64_t begin, int64_t end) {
  return each_row(job, begin, end, [&](int64_t position, int64_t row) {
    if (row_bytes == 0) return;  // memcpy must not see the null pointers of empty tensors
    std::memcpy(job.out + position * row_bytes, job.matrix + row * row_bytes, static_cast<size_t>(row_bytes));
  });
}

template <typename From, typename To>
inline int64_t cast_rows(const Job& job, int64_t begin, int64_t end) {
  const int64_t length = job.rows.row_elements;
  return each_row(job, begin, end, [&](int64_t position, int64_t row) {
    const From* __restrict__ const from = reinterpret_cast<const From*>(job.matrix) + row * length;
    To* __restrict__ const to = reinterpret_cast<To*>(job.out) + position * length;
    const int64_t whole = length / kLanes * kLanes;
    for (int64_t i = 0; i < whole; i += kLanes) store(fetch(from + i), to + i);
    for (int64_t i = whole; i < length; ++i) store(static_cast<float>(from[i]), to + i);
  });
}

using CastRows = int64_t (*)(const Job&, int64_t, int64_t);
PYDYN_CLONES int64_t half_to_float(const Job& job, int64_t begin, int64_t end) {
  return cast_rows<at::Half, float>(job, begin, end);
}
PYDYN_CLONES int64_t half_to_bfloat16(const Job& job, int64_t begin, int64_t end) {
  return cast_rows<at::Half, at::BFloat16>(job, begin, end);
}
PYDYN_CLONES int64_t bfloat16_to_float(const Job& job, int64_t begin, int64_t end) {
  return cast_rows<at::BFloat16, float>(job, begin, end);
}
PYDYN_CLONES int64_t bfloat16_to_half(const Job& job, int64_t begin, int64_t end) {
  return cast_rows<at::BFloat16, at::Half>(job, begin, end);
}
PYDYN_CLONES int64_t float_to_half(const Job& job, int64_t begin, int64_t end) {
  return cast_rows<float, at::Half>(job, begin, end);
}
PYDYN_CLONES int64_t float_to_bfloat16(const Job& job, int64_t begin, int64_t end) {
  return cast_rows<float, at::BFloat16>(job, begin, end);
}

CastRows find_cast(at::ScalarType from, at::ScalarType to) {
  if (from == at::kHalf) return to == at::kFloat ? half_to_float : half_to_bfloat16;
  if (from == at::kBFloat16) return to == at::kFloat ? bfloat16_to_float : bfloat16_to_half;
  return to == at::kHalf ? float_to_half : float_to_bfloat16;
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

std::tuple<at::Tensor, at::Tensor> gather_rows_cpu(const at::Tensor& matrix, const at::Tensor& index,
                                                   const std::optional<at::Tensor>& labels,
                                                   std::optional<at::ScalarType> dtype) {
  const RowGather rows = prepare_gather_rows(matrix, index, labels, dtype);
  const Job job{rows,
                static_cast<char*>(rows.out.mutable_data_ptr()),
                static_cast<const char*>(matrix.const_data_ptr()),
                index.const_data_ptr<int64_t>(),
                labels.has_value() ? rows.out_labels.mutable_data_ptr<int64_t>() : nullptr,
                labels.has_value() ? labels->const_data_ptr<int64_t>() : nullptr};

  // Threads lower one number instead of throwing: the position named is then the first one, whatever the thread count.
  std::atomic<int64_t> first_bad{rows.n_out};
  const int64_t grain = std::max<int64_t>(1, kGrainBytes / std::max<int64_t>(1, rows.row_bytes));
  const auto gather = [&](const auto& write_rows) {
    at::parallel_for(0, rows.n_out, grain, [&](int64_t begin, int64_t end) {
      const int64_t stop = write_rows(begin, end);
      if (stop == end) return;
      int64_t lowest = first_bad.load();
      while (stop < lowest && !first_bad.compare_exchange_weak(lowest, stop)) {
      }
    });
  };
  if (rows.cast) {
    const CastRows cast = find_cast(matrix.scalar_type(), rows.out.scalar_type());
    gather([&](int64_t begin, int64_t end) { return cast(job, begin, end); });
  } else {
    with_row_bytes(rows.row_bytes, [&](auto row_bytes) {
      gather([&](int64_t begin, int64_t end) { return copy_rows(job, row_bytes, begin, end); });
    });
  }

  const int64_t bad = first_bad.load();
  if (bad < rows.n_out) {
    TORCH_CHECK_INDEX(false, "gather_rows: index[", bad, "] = ", job.index[bad * rows.index_stride],
                      " is out of range: matrix has ", rows.n_rows, " rows, so allowed are 0 to ", rows.n_rows - 1);
  }
  return {rows.out, rows.out_labels};
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CPU, library) { library.impl("gather_rows", &gather_rows_cpu); }

}  // namespace pydyn
