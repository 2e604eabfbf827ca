// The schemas of all ops, and the Python module, which offers only facts about the build: the ops are reached through
// the dispatcher, with their fake and autograd parts in pydyn/ops.

#include <pybind11/pybind11.h>
#include <torch/library.h>

#include <string>

#ifdef PYDYN_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

TORCH_LIBRARY(pydyn, library) {
  library.def("gather_rows(Tensor matrix, Tensor index, Tensor? labels, ScalarType? dtype) -> (Tensor, Tensor)",
              {at::Tag::pt2_compliant_tag});
  library.def(
      "gather_images(Tensor images, Tensor index, float[] mean, float[] std, int crop_padding, str padding_mode, "
      "bool flip, float rotation, float shift, SymInt seed, SymInt epoch, Tensor? epoch_tensor, ScalarType dtype, "
      "bool channels_last) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  library.def(
      "ambiguity_cross_entropy(Tensor logits, Tensor target, Tensor? index, Tensor? class_weight, Tensor? strengths, "
      "Tensor? powers, float strength, float power, float? threshold, float label_smoothing, int ignore_index, "
      "int reduction, bool with_gradient) -> "
      "(Tensor loss, Tensor gradient, Tensor divisor, Tensor terms, Tensor correct)",
      {at::Tag::pt2_compliant_tag});
  library.def(
      "adamw_(Tensor(a!) weights, Tensor gradient, Tensor(b!) mean, Tensor(c!) square, Tensor rates, Tensor decays, "
      "SymInt step, Tensor(d!)? copy) -> ()",
      {at::Tag::pt2_compliant_tag});
  library.def(
      "batch_norm_relu_dropout(Tensor units, Tensor weight, Tensor bias, Tensor? uniforms, Tensor? rates) -> "
      "(Tensor activations, Tensor mean, Tensor variance)",
      {at::Tag::pt2_compliant_tag});
  library.def(
      "batch_norm_relu_dropout_backward(Tensor gradient, Tensor units, Tensor activations, Tensor weight, Tensor mean, "
      "Tensor variance, Tensor? rates) -> (Tensor units_gradient, Tensor weight_gradient, Tensor bias_gradient)",
      {at::Tag::pt2_compliant_tag});
  library.def("relu_max_pool(Tensor images) -> (Tensor pooled, Tensor winner)", {at::Tag::pt2_compliant_tag});
  library.def(
      "population_epoch(Tensor images, Tensor labels, Tensor order, Tensor(a!) parameters, Tensor(b!) moments, "
      "Tensor learning_rates, Tensor optimisers, int[] filters, int n_classes, bool output_relu, float mean, "
      "float std, bool clipped, int step, int batch_size) -> (Tensor loss, Tensor correct)",
      {at::Tag::pt2_compliant_tag});
  library.def(
      "population_evaluate(Tensor images, Tensor parameters, int[] filters, int n_classes, bool output_relu, float "
      "mean, "
      "float std) -> (Tensor predictions, Tensor active)",
      {at::Tag::pt2_compliant_tag});
  library.def(
      "ablate_filters(Tensor images, Tensor labels, Tensor parameters, int[] filters, int n_classes, bool output_relu, "
      "float mean, float std) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  library.def("relu_backward(Tensor gradient, Tensor activations) -> (Tensor units_gradient, Tensor partial_sums)",
              {at::Tag::pt2_compliant_tag});
  library.def("bias_relu_max_pool(Tensor units, Tensor bias) -> (Tensor pooled, Tensor winner)",
              {at::Tag::pt2_compliant_tag});
  library.def(
      "bias_relu_max_pool_backward(Tensor gradient, Tensor winner, SymInt height, SymInt width) -> "
      "(Tensor units_gradient, Tensor partial_sums)",
      {at::Tag::pt2_compliant_tag});
  library.def("sum_rows(Tensor rows) -> Tensor", {at::Tag::pt2_compliant_tag});
  library.def("patches(Tensor images, int window, int stride, int padding, ScalarType dtype) -> Tensor",
              {at::Tag::pt2_compliant_tag});
  library.def("conv_3x3(Tensor images, Tensor weight, Tensor? bias, bool relu, bool transposed) -> Tensor",
              {at::Tag::pt2_compliant_tag});
  library.def("conv_3x3_weight_gradient(Tensor gradient, Tensor images) -> Tensor", {at::Tag::pt2_compliant_tag});
  library.def("relu_max_pool_backward(Tensor gradient, Tensor winner, SymInt height, SymInt width) -> Tensor",
              {at::Tag::pt2_compliant_tag});
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
