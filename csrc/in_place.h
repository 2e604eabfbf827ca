// What an op does to a tensor in place.

#pragma once

#include <ATen/core/Tensor.h>

namespace pydyn {

// Autograd then refuses to go back through what was computed from the numbers before, instead of taking the new ones.
inline void note_change(const at::Tensor& tensor) { tensor.unsafeGetTensorImpl()->bump_version(); }

}  // namespace pydyn
