// What the torch side of every CUDA op needs.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include "dtype.h"

namespace pydyn::cuda {

inline Dtype dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kHalf:
      return Dtype::kHalf;
    case at::kBFloat16:
      return Dtype::kBFloat16;
    case at::kFloat:
      return Dtype::kFloat;
    case at::kDouble:
      return Dtype::kDouble;
    default:
      TORCH_CHECK_TYPE(false, "pydyn: no CUDA kernel for ", type);
  }
}

}  // namespace pydyn::cuda
