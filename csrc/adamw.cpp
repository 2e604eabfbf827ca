#include "adamw.h"

#include <c10/util/Exception.h>

#include <cmath>

namespace pydyn {
namespace {

void check_state(const at::Tensor& tensor, const char* name, const at::Tensor& weights) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == at::kFloat, "adamw_: ", name, " must be float32, got ",
                   tensor.scalar_type());
  TORCH_CHECK_VALUE(tensor.sizes() == weights.sizes(), "adamw_: ", name, " must have weights' shape ", weights.sizes(),
                    ", got ", tensor.sizes());
  TORCH_CHECK_VALUE(tensor.is_contiguous(), "adamw_: ", name, " must be contiguous: it is changed in place");
}

at::Tensor as_vector(const at::Tensor& tensor, const char* name, int64_t n_models) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == at::kFloat, "adamw_: ", name, " must be float32, got ",
                   tensor.scalar_type());
  TORCH_CHECK_VALUE(tensor.dim() == 1 && tensor.size(0) == n_models, "adamw_: ", name, " must have shape [", n_models,
                    "], one for each model of weights, got ", tensor.sizes());
  return tensor.contiguous();
}

bool is_half(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kBFloat16 || tensor.scalar_type() == at::kHalf;
}

}  // namespace

AdamWStep prepare_adamw(const at::Tensor& weights, const at::Tensor& gradient, const at::Tensor& mean,
                        const at::Tensor& square, const at::Tensor& rates, const at::Tensor& decays, int64_t step,
                        const std::optional<at::Tensor>& copy) {
  TORCH_CHECK_VALUE(weights.dim() >= 1, "adamw_: weights must have at least 1 dimension (models first), got a scalar");
  check_state(weights, "weights", weights);
  check_state(mean, "mean", weights);
  check_state(square, "square", weights);
  TORCH_CHECK_TYPE(gradient.scalar_type() == at::kFloat || is_half(gradient),
                   "adamw_: gradient must be float32, bfloat16 or float16, got ", gradient.scalar_type());
  TORCH_CHECK_VALUE(gradient.sizes() == weights.sizes(), "adamw_: gradient must have weights' shape ", weights.sizes(),
                    ", got ", gradient.sizes());
  if (copy.has_value()) {
    TORCH_CHECK_TYPE(is_half(*copy), "adamw_: copy must be bfloat16 or float16, got ", copy->scalar_type());
    TORCH_CHECK_VALUE(copy->sizes() == weights.sizes() && copy->is_contiguous(),
                      "adamw_: copy must be contiguous and have weights' shape ", weights.sizes(), ", got ",
                      copy->sizes());
  }
  for (const at::Tensor& other : {gradient, mean, square, rates, decays, copy.value_or(gradient)}) {
    TORCH_CHECK_VALUE(other.device() == weights.device(), "adamw_: weights are on ", weights.device(),
                      ", other tensors on ", other.device(), "; put all on one device");
  }
  TORCH_CHECK_VALUE(step >= 1, "adamw_: step = ", step, " is not at least 1");
  const int64_t n_models = weights.size(0);
  return {gradient.contiguous(),
          as_vector(rates, "rates", n_models),
          as_vector(decays, "decays", n_models),
          n_models,
          n_models == 0 ? 0 : weights.numel() / n_models,
          static_cast<float>(1 / (1 - std::pow(kBeta1, static_cast<double>(step)))),
          static_cast<float>(1 / std::sqrt(1 - std::pow(kBeta2, static_cast<double>(step))))};
}

}  // namespace pydyn
