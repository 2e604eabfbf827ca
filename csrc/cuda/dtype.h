// Names of floating-point types on the way from torch to kernels that know nothing of it.

#pragma once

namespace pydyn::cuda {

enum class Dtype { kHalf, kBFloat16, kFloat, kDouble };

}  // namespace pydyn::cuda
