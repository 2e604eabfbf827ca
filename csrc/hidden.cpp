#include "hidden.h"

#include <c10/util/Exception.h>

namespace pydyn {
namespace {

constexpr const char* kOp = "batch_norm_relu_dropout: ";

at::ScalarType computing_dtype(const at::Tensor& units) {
  return units.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor as(const at::Tensor& tensor, const char* name, at::IntArrayRef shape, const at::Tensor& units) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == computing_dtype(units), kOp, name, " must be ", computing_dtype(units),
                   " for units of ", units.scalar_type(), ", got ", tensor.scalar_type());
  TORCH_CHECK_VALUE(tensor.sizes() == shape, kOp, name, " must have shape ", shape, " for units of shape ",
                    units.sizes(), ", got ", tensor.sizes());
  TORCH_CHECK_VALUE(tensor.device() == units.device(), kOp, "units are on ", units.device(), " and ", name, " on ",
                    tensor.device(), "; put both on one device");
  return tensor.contiguous();
}

HiddenLayer check_units(const at::Tensor& units) {
  const at::ScalarType dtype = units.scalar_type();
  TORCH_CHECK_TYPE(dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf || dtype == at::kDouble, kOp,
                   "units must be bfloat16, float16, float32 or float64, got ", dtype);
  TORCH_CHECK_VALUE(units.dim() == 3 && units.size(2) >= 2, kOp,
                    "units must have shape (K, H, B) with B at least 2, for a variance, got ", units.sizes());
  return {units.contiguous(), {}, {}, {}, {}, units.size(0), units.size(1), units.size(2)};
}

}  // namespace

HiddenLayer prepare_hidden(const at::Tensor& units, const at::Tensor& weight, const at::Tensor& bias,
                           const std::optional<at::Tensor>& uniforms, const std::optional<at::Tensor>& rates) {
  HiddenLayer layer = check_units(units);
  layer.weight = as(weight, "weight", {layer.n_models, layer.n_units}, units);
  layer.bias = as(bias, "bias", {layer.n_models, layer.n_units}, units);
  TORCH_CHECK_VALUE(uniforms.has_value() == rates.has_value(), kOp,
                    "uniforms and rates go together, only one of them was given");
  if (rates.has_value()) {
    layer.uniforms = as(*uniforms, "uniforms", {layer.n_units, layer.n_rows}, units);
    layer.rates = as(*rates, "rates", {layer.n_models}, units);
  }
  return layer;
}

HiddenLayer prepare_hidden_backward(const at::Tensor& gradient, const at::Tensor& units, const at::Tensor& activations,
                                    const at::Tensor& weight, const at::Tensor& mean, const at::Tensor& variance,
                                    const std::optional<at::Tensor>& rates) {
  HiddenLayer layer = check_units(units);
  as(gradient, "gradient", units.sizes(), units);
  as(activations, "activations", units.sizes(), units);
  layer.weight = as(weight, "weight", {layer.n_models, layer.n_units}, units);
  as(mean, "mean", {layer.n_models, layer.n_units}, units);
  as(variance, "variance", {layer.n_models, layer.n_units}, units);
  if (rates.has_value()) layer.rates = as(*rates, "rates", {layer.n_models}, units);
  return layer;
}

}  // namespace pydyn
