// Free of torch, so that any nvcc compiles the kernel in seconds. The maths: ../loss.h.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "dtype.h"

namespace pydyn::cuda {

// Sums over the rows that one block took: of weight_i CE_i, of c_y, of weight_i c_y.
struct LossSums {
  double loss, class_weight, weight;
};

enum class LossReduction : int64_t { kNone, kMean, kSum, kWeightedMean };  // as ../loss.h numbers them

// All pointers are to device memory; those to reals are to double for double logits, to float otherwise.
struct LossCall {
  const void* logits;
  const int64_t* target;
  const int64_t* index;      // or null
  const void* class_weight;  // (C,) or null
  const void* strengths;     // (K,) or null
  const void* powers;        // (K,) or null
  void* loss;
  void* gradient;  // or null; of the sum over the rows, whatever the reduction
  void* divisor;
  void* losses;
  void* margins;
  void* weights;
  bool* correct;
  LossSums* sums;  // workspace of `loss_blocks(...)`
  int64_t n_models, n_rows, n_classes, n_labels;
  bool labels_shared;
  double strength, power, threshold, label_smoothing;
  int64_t ignore_index;
  LossReduction reduction;
};

// Blocks of all models together, each of which leaves its sums.
int64_t loss_blocks(int64_t n_models, int64_t n_rows, int64_t n_classes);

// Enqueues loss, gradient and the rest on `stream`. A label or an index out of range stops the kernel with a
// device-side assert, which the next synchronising call reports.
cudaError_t ambiguity_cross_entropy(const LossCall& call, Dtype logits, cudaStream_t stream);

}  // namespace pydyn::cuda
