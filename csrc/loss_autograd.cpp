// The backward pass of the loss, for every device: the gradient was made with the loss, and is scaled here.

#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

#include "loss.h"

namespace pydyn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

using Loss = LossOutputs(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                         const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
                         const std::optional<at::Tensor>&, double, double, std::optional<double>, double, int64_t,
                         int64_t, bool);

// Whether the gradient needs no scaling, where asking costs no wait for a device: then half of the traffic is saved.
bool cancel_out(const at::Tensor& upstream, const at::Tensor& divisor) {
  if (!upstream.device().is_cpu() || at::isTensorSubclassLike(upstream) || at::isTensorSubclassLike(divisor) ||
      upstream.scalar_type() != divisor.scalar_type() || !upstream.is_contiguous() || upstream.is_neg())
    return false;
  const auto equal = [&](const auto* values, const auto* others) {
    return std::equal(values, values + upstream.numel(), others);
  };
  return upstream.scalar_type() == at::kDouble
             ? equal(upstream.const_data_ptr<double>(), divisor.const_data_ptr<double>())
             : equal(upstream.const_data_ptr<float>(), divisor.const_data_ptr<float>());
}

struct AmbiguityCrossEntropy : public torch::autograd::Function<AmbiguityCrossEntropy> {
  static variable_list forward(AutogradContext* context, const Variable& logits, const at::Tensor& target,
                               const std::optional<at::Tensor>& index, const std::optional<at::Tensor>& class_weight,
                               const std::optional<at::Tensor>& strengths, const std::optional<at::Tensor>& powers,
                               double strength, double power, std::optional<double> threshold, double label_smoothing,
                               int64_t ignore_index, int64_t reduction, bool with_gradient) {
    static const auto op =
        c10::Dispatcher::singleton().findSchemaOrThrow("pydyn::ambiguity_cross_entropy", "").typed<Loss>();
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [loss, gradient, divisor, terms, correct] =
        op.call(logits, target, index, class_weight, strengths, powers, strength, power, threshold, label_smoothing,
                ignore_index, reduction, with_gradient);
    context->save_for_backward({gradient, divisor});
    context->saved_data["with_gradient"] = with_gradient;
    context->saved_data["by_row"] = reduction == static_cast<int64_t>(Reduction::kNone);
    context->mark_non_differentiable({gradient, divisor, terms, correct});
    context->set_materialize_grads(false);
    return {loss, gradient, divisor, terms, correct};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    variable_list result(13);
    const at::Tensor& upstream = gradients[0];
    if (!upstream.defined()) return result;
    TORCH_CHECK(context->saved_data["with_gradient"].toBool(),
                "ambiguity_cross_entropy: the loss was computed without gradient");
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "ambiguity_cross_entropy: second derivatives (create_graph=True) are not supported; use "
                "pydyn.ops.reference.ambiguity_cross_entropy");
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& gradient = saved[0];
    const at::Tensor& divisor = saved[1];
    const bool by_row = context->saved_data["by_row"].toBool();
    if (!by_row && cancel_out(upstream, divisor)) {
      result[0] = gradient;
      return result;
    }
    at::Tensor scale = by_row ? upstream : upstream.div(divisor);
    // Also where it is one number: 0-dimensional, a GPU would round it to the gradient's precision before it
    // multiplies.
    while (scale.dim() < gradient.dim()) scale = scale.unsqueeze(-1);
    result[0] = gradient.mul(scale).to(gradient.scalar_type());
    return result;
  }
};

LossOutputs ambiguity_cross_entropy_autograd(const at::Tensor& logits, const at::Tensor& target,
                                             const std::optional<at::Tensor>& index,
                                             const std::optional<at::Tensor>& class_weight,
                                             const std::optional<at::Tensor>& strengths,
                                             const std::optional<at::Tensor>& powers, double strength, double power,
                                             std::optional<double> threshold, double label_smoothing,
                                             int64_t ignore_index, int64_t reduction, bool with_gradient) {
  const variable_list outputs =
      AmbiguityCrossEntropy::apply(logits, target, index, class_weight, strengths, powers, strength, power, threshold,
                                   label_smoothing, ignore_index, reduction, with_gradient);
  return {outputs[0], outputs[1], outputs[2], outputs[3], outputs[4]};
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, Autograd, library) {
  library.impl("ambiguity_cross_entropy", &ambiguity_cross_entropy_autograd);
}

}  // namespace pydyn
