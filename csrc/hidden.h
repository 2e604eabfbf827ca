// What comes between the two layers of K heads, in one pass: batch normalisation (Ioffe and Szegedy 2015), ReLU and
// dropout. The batch lies along the last dimension, so that a unit's numbers lie side by side. For unit h of model k:
//
//     mu      = mean of units_kh over the batch                 var = its variance, divided by B
//     x       = (units_khb - mu) / sqrt(var + eps)              y = weight_kh x + bias_kh
//     a_khb   = max(0, y)                                       without dropout
//     a_khb   = max(0, y) / (1 - rate_k) where uniforms_hb >= rate_k, else 0
//
// and back, with g = the gradient of a where a is above 0, over 1 - rate_k, else 0:
//
//     d units = weight_kh / sqrt(var + eps) (g - mean(g) - x mean(g x))     d bias = sum(g)     d weight = sum(g x)
//
// eps = 1e-5, as torch.nn.BatchNorm1d has it by default. NaN stays NaN.
//
//     units         (K, H, B)    bfloat16, float16, float32 or float64; B at least 2
//     weight, bias  (K, H)       float32, for float64 units float64
//     uniforms      (H, B)       likewise, in [0, 1): one draw for all models
//     rates         (K,)         likewise, in [0, 1)
//     a             (K, H, B)    likewise
//
// Memory bandwidth is the limit: units are read and activations written once, as a row of a unit stays in the nearest
// cache between its sums and its result.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace pydyn {

constexpr double kNormEps = 1e-5;

struct HiddenLayer {
  at::Tensor units;     // contiguous
  at::Tensor weight;    // contiguous
  at::Tensor bias;      // contiguous, or undefined in the backward pass
  at::Tensor uniforms;  // contiguous, or undefined
  at::Tensor rates;     // contiguous, or undefined
  int64_t n_models, n_units, n_rows;
};

// Refuse what no device can compute.
HiddenLayer prepare_hidden(const at::Tensor& units, const at::Tensor& weight, const at::Tensor& bias,
                           const std::optional<at::Tensor>& uniforms, const std::optional<at::Tensor>& rates);
HiddenLayer prepare_hidden_backward(const at::Tensor& gradient, const at::Tensor& units, const at::Tensor& activations,
                                    const at::Tensor& weight, const at::Tensor& mean, const at::Tensor& variance,
                                    const std::optional<at::Tensor>& rates);

}  // namespace pydyn
