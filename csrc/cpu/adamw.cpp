#include "../adamw.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>

#include "../in_place.h"
#include "clones.h"
#include "vector.h"

namespace pydyn {
namespace {

// Numbers that one thread steps at a time, of one model.
constexpr int64_t kPart = int64_t{1} << 13;

struct Factors {
  float keep;  // 1 - rate decay
  float rate;  // rate / (1 - b1^t)
  float square_correction;
};

// One number, or a vector of them.
template <typename Number, typename Root>
PYDYN_INLINE Number step_numbers(const Factors& factors, const Number& gradient, Number& mean, Number& square,
                                 const Number& weight, const Root& root) {
  mean += (gradient - mean) * static_cast<float>(1 - kBeta1);
  square = square * static_cast<float>(kBeta2) + gradient * gradient * static_cast<float>(1 - kBeta2);
  const Number scale = root(square) * factors.square_correction + static_cast<float>(kEps);
  return weight * factors.keep - factors.rate * mean / scale;
}

template <typename G, typename Copy>
PYDYN_INLINE void step_part(const Factors& factors, const G* __restrict__ gradient, float* __restrict__ mean,
                            float* __restrict__ square, float* __restrict__ weights, Copy* __restrict__ copy,
                            int64_t count) {
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    Reals<float> m = read<Reals<float>>(mean + i), v = read<Reals<float>>(square + i);
    // By way of memory: a root over a vector's own lanes is taken one by one.
    const auto root = [](const Reals<float>& numbers) __attribute__((always_inline)) {
      float lanes[kLanes];
      write(numbers, lanes);
      for (float& lane : lanes) lane = std::sqrt(lane);
      return read<Reals<float>>(lanes);
    };
    const Reals<float> w = step_numbers(factors, fetch(gradient + i), m, v, read<Reals<float>>(weights + i), root);
    write(m, mean + i);
    write(v, square + i);
    write(w, weights + i);
    if (copy) store(w, copy + i);
  }
  for (int64_t i = whole; i < count; ++i) {
    const float w = step_numbers(factors, static_cast<float>(gradient[i]), mean[i], square[i], weights[i],
                                 [](float number) { return std::sqrt(number); });
    weights[i] = w;
    if (copy) store(w, copy + i);
  }
}

template <typename G, typename Copy>
PYDYN_CLONES void step_clones(const Factors& factors, const G* gradient, float* mean, float* square, float* weights,
                              Copy* copy, int64_t count) {
  step_part(factors, gradient, mean, square, weights, copy, count);
}

template <typename G, typename Copy>
void step_models(const AdamWStep& step, const at::Tensor& weights, const at::Tensor& mean, const at::Tensor& square,
                 Copy* copy) {
  const G* const gradient = step.gradient.const_data_ptr<G>();
  const float* const rates = step.rates.const_data_ptr<float>();
  const float* const decays = step.decays.const_data_ptr<float>();
  float* const w = weights.mutable_data_ptr<float>();
  float* const m = mean.mutable_data_ptr<float>();
  float* const v = square.mutable_data_ptr<float>();
  const int64_t parts = (step.n_each + kPart - 1) / kPart;
  const int64_t grain = std::max<int64_t>(1, kPart / std::max<int64_t>(1, std::min(step.n_each, kPart)));
  at::parallel_for(0, step.n_models * parts, grain, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t model = at / parts, first = at % parts * kPart;
      const int64_t count = std::min(kPart, step.n_each - first), from = model * step.n_each + first;
      const Factors factors{1 - rates[model] * decays[model], rates[model] * step.correction, step.square_correction};
      step_clones(factors, gradient + from, m + from, v + from, w + from, copy ? copy + from : nullptr, count);
    }
  });
}

template <typename G>
void with_copy(const AdamWStep& step, const at::Tensor& weights, const at::Tensor& mean, const at::Tensor& square,
               const std::optional<at::Tensor>& copy) {
  if (copy.has_value() && copy->scalar_type() == at::kHalf)
    step_models<G>(step, weights, mean, square, copy->mutable_data_ptr<at::Half>());
  else
    step_models<G>(step, weights, mean, square, copy.has_value() ? copy->mutable_data_ptr<at::BFloat16>() : nullptr);
}

void adamw_cpu(const at::Tensor& weights, const at::Tensor& gradient, const at::Tensor& mean, const at::Tensor& square,
               const at::Tensor& rates, const at::Tensor& decays, int64_t step, const std::optional<at::Tensor>& copy) {
  const AdamWStep prepared = prepare_adamw(weights, gradient, mean, square, rates, decays, step, copy);
  for (const at::Tensor& changed : {weights, mean, square}) note_change(changed);
  if (copy.has_value()) note_change(*copy);
  switch (gradient.scalar_type()) {
    case at::kBFloat16:
      return with_copy<at::BFloat16>(prepared, weights, mean, square, copy);
    case at::kHalf:
      return with_copy<at::Half>(prepared, weights, mean, square, copy);
    default:
      return with_copy<float>(prepared, weights, mean, square, copy);
  }
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CPU, library) { library.impl("adamw_", &adamw_cpu); }

}  // namespace pydyn
