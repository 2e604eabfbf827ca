#include "loss.h"

#include <ATen/core/DimVector.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <limits>

namespace pydyn {
namespace {

at::Tensor as_vector(const std::optional<at::Tensor>& tensor, const char* name, int64_t size, const at::Tensor& logits,
                     at::ScalarType dtype) {
  if (!tensor.has_value()) return {};
  TORCH_CHECK_VALUE(tensor->dim() == 1 && tensor->size(0) == size, "ambiguity_cross_entropy: ", name,
                    " must have shape [", size, "], got ", tensor->sizes());
  TORCH_CHECK_TYPE(tensor->is_floating_point(), "ambiguity_cross_entropy: ", name, " must be floating point, got ",
                   tensor->scalar_type());
  TORCH_CHECK_VALUE(tensor->device() == logits.device(), "ambiguity_cross_entropy: logits are on ", logits.device(),
                    " and ", name, " on ", tensor->device(), "; put both on one device");
  return tensor->to(dtype).contiguous();
}

void check_integers(const at::Tensor& tensor, const char* name, const at::Tensor& logits) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == at::kLong, "ambiguity_cross_entropy: ", name, " must be int64, got ",
                   tensor.scalar_type());
  TORCH_CHECK_VALUE(tensor.device() == logits.device(), "ambiguity_cross_entropy: logits are on ", logits.device(),
                    " and ", name, " on ", tensor.device(), "; put both on one device");
}

}  // namespace

LossCall prepare_loss(const at::Tensor& logits, const at::Tensor& target, const std::optional<at::Tensor>& index,
                      const std::optional<at::Tensor>& class_weight, const std::optional<at::Tensor>& strengths,
                      const std::optional<at::Tensor>& powers, double strength, double power,
                      std::optional<double> threshold, double label_smoothing, int64_t ignore_index, int64_t reduction,
                      bool with_gradient) {
  const at::ScalarType dtype = logits.scalar_type();
  TORCH_CHECK_TYPE(dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf || dtype == at::kDouble,
                   "ambiguity_cross_entropy: logits must be float16, bfloat16, float32 or float64, got ", dtype);
  const bool batched = logits.dim() == 3;
  TORCH_CHECK_VALUE((batched || logits.dim() == 2) && logits.size(-1) >= 1,
                    "ambiguity_cross_entropy: logits must have shape (B, C) or (K, B, C) with at least 1 class, got ",
                    logits.sizes());
  const int64_t n_models = batched ? logits.size(0) : 1;
  const int64_t n_rows = logits.size(-2), n_classes = logits.size(-1);

  check_integers(target, "target", logits);
  if (index.has_value()) {
    check_integers(*index, "index", logits);
    TORCH_CHECK_VALUE(target.dim() == 1,
                      "ambiguity_cross_entropy: target must have shape (N,) where there is an index,"
                      " got ",
                      target.sizes());
  }
  const at::Tensor& labels = index.has_value() ? *index : target;
  const bool labels_shared = labels.dim() == 1;
  TORCH_CHECK_VALUE((labels_shared && labels.size(0) == n_rows) ||
                        (batched && labels.dim() == 2 && labels.size(0) == n_models && labels.size(1) == n_rows),
                    "ambiguity_cross_entropy: ", index.has_value() ? "index" : "target", " must have shape [", n_rows,
                    "] ", batched ? "or that for each model " : "", "for logits of shape ", logits.sizes(), ", got ",
                    labels.sizes());

  TORCH_CHECK_VALUE(strength >= 0 && std::isfinite(strength), "ambiguity_cross_entropy: strength = ", strength,
                    " is not a finite number of at least 0");
  TORCH_CHECK_VALUE(power >= 0 && std::isfinite(power), "ambiguity_cross_entropy: power = ", power,
                    " is not a finite number of at least 0");
  TORCH_CHECK_VALUE(!threshold.has_value() || (*threshold >= 0 && *threshold <= 1),
                    "ambiguity_cross_entropy: threshold = ", threshold.value_or(0), " is not in 0 to 1");
  TORCH_CHECK_VALUE(label_smoothing >= 0 && label_smoothing <= 1,
                    "ambiguity_cross_entropy: label_smoothing = ", label_smoothing, " is not in 0 to 1");
  TORCH_CHECK_VALUE(
      batched || (!strengths.has_value() && !powers.has_value()),
      "ambiguity_cross_entropy: strength and power may be tensors for logits of shape (K, B, C) only, got ",
      logits.sizes());
  TORCH_CHECK_VALUE(reduction >= 0 && reduction <= 3, "ambiguity_cross_entropy: unknown reduction ", reduction);

  const at::ScalarType computing = dtype == at::kDouble ? at::kDouble : at::kFloat;
  LossCall call{logits.contiguous(),
                target.contiguous(),
                index.has_value() ? index->contiguous() : at::Tensor(),
                as_vector(class_weight, "class_weight", n_classes, logits, computing),
                as_vector(strengths, "strength", n_models, logits, computing),
                as_vector(powers, "power", n_models, logits, computing),
                n_models,
                n_rows,
                n_classes,
                target.numel(),
                labels_shared,
                {strength, power, threshold.value_or(std::numeric_limits<double>::quiet_NaN()), label_smoothing,
                 ignore_index, static_cast<Reduction>(reduction)},
                {}};

  at::DimVector models, rows{n_rows}, terms{3, n_rows};
  if (batched) {
    models.push_back(n_models);
    rows.insert(rows.begin(), n_models);
    terms.insert(terms.begin() + 1, n_models);
  }
  const auto empty = [&](at::IntArrayRef sizes, at::ScalarType type) {
    return logits.new_empty(sizes, at::TensorOptions().dtype(type));
  };
  call.outputs = {empty(call.options.reduction == Reduction::kNone ? rows : models, computing),
                  with_gradient ? empty(call.logits.sizes(), dtype) : empty({0}, dtype), empty(models, computing),
                  empty(terms, computing), empty(rows, at::kBool)};
  return call;
}

}  // namespace pydyn
