// Cross-entropy weighted by ambiguity, with its gradient, in one pass over the logits. For row i of logits z, label y:
//
//     p       = softmax(z)
//     margin  = p_(1) - p_(2)                                   the two largest probabilities
//     weight  = 1 + strength (1 - margin)^power                 or, with a threshold: 1 + strength where margin <
//     threshold CE      = (1 - s) c_y (-log p_y) + s / C sum_j c_j (-log p_j)      s label smoothing, c class weights
//     (1 by default) loss    = sum_i weight_i CE_i / divisor
//
// with the divisor sum_i c_y ("mean": plain cross-entropy's own, when strength is 0), sum_i weight_i c_y
// ("weighted_mean") or 1 ("sum"); "none" gives weight_i CE_i. The weight counts as a constant in the gradient:
//
//     d loss / d z_j = weight_i / divisor (p_j ((1 - s) c_y + s / C sum c) - (1 - s) c_y [j = y] - s / C c_j)
//
// Rows with the label `ignore_index` count nowhere: CE, weight and gradient are 0. A row with NaN or +infinity, or of
// nothing but -infinity, is NaN throughout, as in torch. Half-precision logits are computed in float32.
//
//     logits  (B, C) or (K, B, C)    float16, bfloat16, float32, float64; K models with a strength and a power each
//     target  (B,), (K, B), or with an index (N,)            int64
//     index   none, (B,) or (K, B)                           int64, into target
//
// It reads B C logits and writes as many gradients: for large C memory bandwidth is the limit.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

namespace pydyn {

enum class Reduction : int64_t { kNone, kMean, kSum, kWeightedMean };

struct LossOptions {
  double strength;
  double power;
  double threshold;  // NaN: none
  double label_smoothing;
  int64_t ignore_index;
  Reduction reduction;
};

// loss () or (K,), or without reduction (B,) or (K, B); gradient like logits, of sum_i weight_i CE_i / (what the device
// knew of the divisor), or empty; divisor () or (K,): what the gradient is still to be divided by; terms (3, B) or
// (3, K, B): CE, margin and weight of each row; correct (B,) or (K, B): whether the first largest logit is the label's
// (false for a row of NaN or an ignored one).
using LossOutputs = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

struct LossCall {
  at::Tensor logits;        // contiguous
  at::Tensor target;        // contiguous
  at::Tensor index;         // contiguous, or undefined
  at::Tensor class_weight;  // contiguous, in the computing dtype, or undefined
  at::Tensor strengths;     // (K,) likewise, or undefined
  at::Tensor powers;        // (K,) likewise, or undefined
  int64_t n_models;         // K, 1 for two-dimensional logits
  int64_t n_rows;           // B
  int64_t n_classes;        // C
  int64_t n_labels;         // of target, for the range of index
  bool labels_shared;       // target, or index where there is one, is (B,) for all K
  LossOptions options;
  LossOutputs outputs;
};

// Refuses what no device can compute and allocates the outputs. The range of labels and indices is left to the device.
LossCall prepare_loss(const at::Tensor& logits, const at::Tensor& target, const std::optional<at::Tensor>& index,
                      const std::optional<at::Tensor>& class_weight, const std::optional<at::Tensor>& strengths,
                      const std::optional<at::Tensor>& powers, double strength, double power,
                      std::optional<double> threshold, double label_smoothing, int64_t ignore_index, int64_t reduction,
                      bool with_gradient);

}  // namespace pydyn
