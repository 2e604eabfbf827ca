// A step of AdamW (Loshchilov and Hutter 2019, algorithm 2) for K models at once, each with a rate and a decay of its
// own. For every number w of model k with the gradient g, at step t from 1:
//
//     m = m + (1 - b1) (g - m)
//     v = b2 v + (1 - b2) g^2
//     w = (1 - rate_k decay_k) w - rate_k / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)
//
// with b1 = 0.9, b2 = 0.999 and eps = 1e-8, as torch.optim.AdamW has them by default. Numbers do not meet: every
// device, order and number of threads gives the same.
//
//     weights, mean, square  (K, ...)    float32, contiguous, changed in place
//     gradient               (K, ...)    float32, bfloat16 or float16
//     rates, decays          (K,)        float32
//     copy                   (K, ...)    none, or bfloat16 or float16: gets the new weights, rounded
//
// Memory bandwidth is the limit: four numbers are read and three written, and the copy while they are at hand.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace pydyn {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-8;

struct AdamWStep {
  at::Tensor gradient;      // contiguous
  at::Tensor rates;         // contiguous
  at::Tensor decays;        // contiguous
  int64_t n_models;         // K
  int64_t n_each;           // numbers of a model
  float correction;         // 1 / (1 - b1^t)
  float square_correction;  // 1 / sqrt(1 - b2^t)
};

// Refuses what no device can compute.
AdamWStep prepare_adamw(const at::Tensor& weights, const at::Tensor& gradient, const at::Tensor& mean,
                        const at::Tensor& square, const at::Tensor& rates, const at::Tensor& decays, int64_t step,
                        const std::optional<at::Tensor>& copy);

}  // namespace pydyn
