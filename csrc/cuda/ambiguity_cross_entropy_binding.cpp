#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../loss.h"
#include "ambiguity_cross_entropy.h"
#include "binding.h"

namespace pydyn {
namespace {

const void* data_or_null(const at::Tensor& tensor) { return tensor.defined() ? tensor.const_data_ptr() : nullptr; }

LossOutputs ambiguity_cross_entropy_cuda(const at::Tensor& logits, const at::Tensor& target,
                                         const std::optional<at::Tensor>& index,
                                         const std::optional<at::Tensor>& class_weight,
                                         const std::optional<at::Tensor>& strengths,
                                         const std::optional<at::Tensor>& powers, double strength, double power,
                                         std::optional<double> threshold, double label_smoothing, int64_t ignore_index,
                                         int64_t reduction, bool with_gradient) {
  const c10::cuda::CUDAGuard guard(logits.device());
  const LossCall call = prepare_loss(logits, target, index, class_weight, strengths, powers, strength, power, threshold,
                                     label_smoothing, ignore_index, reduction, with_gradient);
  const auto& [loss, gradient, divisor, terms, correct] = call.outputs;
  const int64_t blocks = cuda::loss_blocks(call.n_models, call.n_rows, call.n_classes);
  TORCH_CHECK_VALUE(blocks < (int64_t{1} << 31), "ambiguity_cross_entropy: logits of shape ", logits.sizes(),
                    " are too many rows for one launch");
  constexpr int64_t kNumbers = sizeof(cuda::LossSums) / sizeof(double);
  const at::Tensor sums = logits.new_empty({blocks * kNumbers}, at::TensorOptions().dtype(at::kDouble));
  const at::Tensor losses = terms[0], margins = terms[1], weights = terms[2];
  const cuda::LossCall arguments{call.logits.const_data_ptr(),
                                 call.target.const_data_ptr<int64_t>(),
                                 call.index.defined() ? call.index.const_data_ptr<int64_t>() : nullptr,
                                 data_or_null(call.class_weight),
                                 data_or_null(call.strengths),
                                 data_or_null(call.powers),
                                 loss.mutable_data_ptr(),
                                 with_gradient ? gradient.mutable_data_ptr() : nullptr,
                                 divisor.mutable_data_ptr(),
                                 losses.mutable_data_ptr(),
                                 margins.mutable_data_ptr(),
                                 weights.mutable_data_ptr(),
                                 correct.mutable_data_ptr<bool>(),
                                 static_cast<cuda::LossSums*>(sums.mutable_data_ptr()),
                                 call.n_models,
                                 call.n_rows,
                                 call.n_classes,
                                 call.n_labels,
                                 call.labels_shared,
                                 call.options.strength,
                                 call.options.power,
                                 call.options.threshold,
                                 call.options.label_smoothing,
                                 call.options.ignore_index,
                                 static_cast<cuda::LossReduction>(reduction)};
  C10_CUDA_CHECK(cuda::ambiguity_cross_entropy(arguments, cuda::dtype_of(logits.scalar_type()),
                                               c10::cuda::getCurrentCUDAStream()));
  return call.outputs;
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CUDA, library) { library.impl("ambiguity_cross_entropy", &ambiguity_cross_entropy_cuda); }

}  // namespace pydyn
