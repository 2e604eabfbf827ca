// The schemas of all ops, and the Python module, which offers only facts about the build: the ops are reached through
// the dispatcher, with their fake and autograd parts in pydyn/ops.

#include <pybind11/pybind11.h>
#include <torch/library.h>

#include <string>

#ifdef PYDYN_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

TORCH_LIBRARY(pydyn, library) {
  library.def("gather_rows(Tensor matrix, Tensor index) -> Tensor", {at::Tag::pt2_compliant_tag});
}

PYBIND11_MODULE(_C, module) {
  module.doc() = "What pydyn's native extension was built with.";
  module.attr("torch_version") = PYDYN_TORCH_VERSION;
#ifdef PYDYN_WITH_CUDA
  module.attr("cuda_version") =
      std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
#else
  module.attr("cuda_version") = pybind11::none();
#endif
}
