#include "../hidden.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "clones.h"
#include "vector.h"

namespace pydyn {
namespace {

// About what one core does in the time that waking a second one takes.
constexpr int64_t kGrainElements = int64_t{1} << 14;

template <typename Real>
struct Forward {
  int64_t n_units, n_rows;
  const void* units;
  const Real *weight, *bias;
  const Real *uniforms, *rates;  // or null, both
  Real *activations, *mean, *variance;
};

template <typename Real>
struct Backward {
  int64_t n_units, n_rows;
  const Real* gradient;
  const void* units;
  const Real *activations, *weight, *mean, *variance;
  const Real* rates;  // or null
  void* units_gradient;
  Real *weight_gradient, *bias_gradient;
};

// The sum of whole(i) over a row, and of rest(i) where numbers do not fill a vector.
template <typename Real, typename Whole, typename Rest>
PYDYN_INLINE Real sum_of_row(int64_t n_rows, const Whole& whole, const Rest& rest) {
  Reals<Real> sums{};
  int64_t i = 0;
  for (; i + kLanes <= n_rows; i += kLanes) sums += whole(i);
  Real lanes[kLanes];
  write(sums, lanes);
  Real sum = 0;
  for (const Real lane : lanes) sum += lane;
  for (; i < n_rows; ++i) sum += rest(i);
  return sum;
}

template <typename Real>
PYDYN_INLINE Real inverse_deviation(Real variance) {
  return 1 / std::sqrt(variance + static_cast<Real>(kNormEps));
}

// Rows [begin, end) of all models' units.
template <typename T, typename Real>
PYDYN_INLINE void forward_rows(const Forward<Real>& job, int64_t begin, int64_t end) {
  const int64_t n_rows = job.n_rows;
  const Real count = static_cast<Real>(n_rows);
  for (int64_t row = begin; row < end; ++row) {
    const T* const x = static_cast<const T*>(job.units) + row * n_rows;
    Real* const out = job.activations + row * n_rows;
    const Real mean = sum_of_row<Real>(
                          n_rows, [&](int64_t i) __attribute__((always_inline)) { return fetch(x + i); },
                          [&](int64_t i) { return static_cast<Real>(x[i]); }) /
                      count;
    const Real variance = sum_of_row<Real>(
                              n_rows,
                              [&](int64_t i) __attribute__((always_inline)) {
                                const Reals<Real> centred = fetch(x + i) - mean;
                                return centred * centred;
                              },
                              [&](int64_t i) {
                                const Real centred = static_cast<Real>(x[i]) - mean;
                                return centred * centred;
                              }) /
                          count;
    job.mean[row] = mean;
    job.variance[row] = variance;
    const Real scale = job.weight[row] * inverse_deviation(variance), bias = job.bias[row];
    const Real rate = job.rates ? job.rates[row / job.n_units] : Real(0);
    const Real kept = 1 / (1 - rate);
    const Real* const uniforms = rate > 0 ? job.uniforms + row % job.n_units * n_rows : nullptr;
    const Reals<Real> zero{};
    int64_t i = 0;
    for (; i + kLanes <= n_rows; i += kLanes) {
      const Reals<Real> y = (fetch(x + i) - mean) * scale + bias;
      Reals<Real> activation = y < zero ? zero : y;  // NaN is not below 0
      if (uniforms) activation = read<Reals<Real>>(uniforms + i) >= rate ? activation * kept : zero;
      write(activation, out + i);
    }
    for (; i < n_rows; ++i) {
      const Real y = (static_cast<Real>(x[i]) - mean) * scale + bias;
      Real activation = y < 0 ? 0 : y;
      if (uniforms) activation = uniforms[i] >= rate ? activation * kept : 0;
      out[i] = activation;
    }
  }
}

template <typename T, typename Real>
PYDYN_INLINE void backward_rows(const Backward<Real>& job, int64_t begin, int64_t end) {
  const int64_t n_rows = job.n_rows;
  const Real count = static_cast<Real>(n_rows);
  for (int64_t row = begin; row < end; ++row) {
    const T* const x = static_cast<const T*>(job.units) + row * n_rows;
    const Real* const activations = job.activations + row * n_rows;
    const Real* const gradient = job.gradient + row * n_rows;
    const Real mean = job.mean[row], inverse = inverse_deviation(job.variance[row]);
    const Real kept = job.rates ? 1 / (1 - job.rates[row / job.n_units]) : Real(1);
    const Reals<Real> zero{};
    // As they arrive at y, and x normalised: lanes, and one by one.
    const auto upstream = [&](int64_t i) __attribute__((always_inline)) {
      const Reals<Real> passed = read<Reals<Real>>(gradient + i) * kept;
      return read<Reals<Real>>(activations + i) <= zero ? zero : passed;
    };
    const auto upstream_of = [&](int64_t i) { return activations[i] <= 0 ? Real(0) : gradient[i] * kept; };
    const auto normalised = [&](int64_t i) __attribute__((always_inline)) { return (fetch(x + i) - mean) * inverse; };
    const auto normalised_of = [&](int64_t i) { return (static_cast<Real>(x[i]) - mean) * inverse; };
    const Real sum = sum_of_row<Real>(n_rows, upstream, upstream_of);
    const Real product = sum_of_row<Real>(
        n_rows, [&](int64_t i) __attribute__((always_inline)) { return upstream(i) * normalised(i); },
        [&](int64_t i) { return upstream_of(i) * normalised_of(i); });
    job.bias_gradient[row] = sum;
    job.weight_gradient[row] = product;
    T* const out = static_cast<T*>(job.units_gradient) + row * n_rows;
    const Real scale = job.weight[row] * inverse, offset = sum / count, slope = product / count;
    int64_t i = 0;
    for (; i + kLanes <= n_rows; i += kLanes) store(scale * (upstream(i) - offset - normalised(i) * slope), out + i);
    for (; i < n_rows; ++i) store(scale * (upstream_of(i) - offset - normalised_of(i) * slope), out + i);
  }
}

template <typename T, typename Real>
PYDYN_CLONES void forward_clones(const Forward<Real>& job, int64_t begin, int64_t end) {
  forward_rows<T, Real>(job, begin, end);
}
template <typename T, typename Real>
PYDYN_CLONES void backward_clones(const Backward<Real>& job, int64_t begin, int64_t end) {
  backward_rows<T, Real>(job, begin, end);
}

template <typename Work>
void with_dtype(at::ScalarType dtype, const Work& work) {
  switch (dtype) {
    case at::kDouble:
      return work(double{}, double{});
    case at::kHalf:
      return work(at::Half{}, float{});
    case at::kBFloat16:
      return work(at::BFloat16{}, float{});
    default:
      return work(float{}, float{});
  }
}

template <typename Real>
const Real* data_or_null(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<Real>() : nullptr;
}

template <typename Work>
void each_row(const HiddenLayer& layer, const Work& work) {
  at::parallel_for(0, layer.n_models * layer.n_units, std::max<int64_t>(1, kGrainElements / layer.n_rows), work);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> hidden_cpu(const at::Tensor& units, const at::Tensor& weight,
                                                          const at::Tensor& bias,
                                                          const std::optional<at::Tensor>& uniforms,
                                                          const std::optional<at::Tensor>& rates) {
  const HiddenLayer layer = prepare_hidden(units, weight, bias, uniforms, rates);
  at::Tensor activations = at::empty(layer.units.sizes(), layer.weight.options());
  at::Tensor mean = at::empty_like(layer.weight), variance = at::empty_like(layer.weight);
  with_dtype(units.scalar_type(), [&](auto element, auto number) {
    using T = decltype(element);
    using Real = decltype(number);
    const Forward<Real> job{layer.n_units,
                            layer.n_rows,
                            layer.units.const_data_ptr(),
                            layer.weight.const_data_ptr<Real>(),
                            layer.bias.const_data_ptr<Real>(),
                            data_or_null<Real>(layer.uniforms),
                            data_or_null<Real>(layer.rates),
                            activations.mutable_data_ptr<Real>(),
                            mean.mutable_data_ptr<Real>(),
                            variance.mutable_data_ptr<Real>()};
    each_row(layer, [&](int64_t begin, int64_t end) { forward_clones<T, Real>(job, begin, end); });
  });
  return {activations, mean, variance};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> hidden_backward_cpu(const at::Tensor& gradient, const at::Tensor& units,
                                                                   const at::Tensor& activations,
                                                                   const at::Tensor& weight, const at::Tensor& mean,
                                                                   const at::Tensor& variance,
                                                                   const std::optional<at::Tensor>& rates) {
  const HiddenLayer layer = prepare_hidden_backward(gradient, units, activations, weight, mean, variance, rates);
  const at::Tensor gradients = gradient.contiguous(), outputs = activations.contiguous();
  const at::Tensor means = mean.contiguous(), variances = variance.contiguous();
  at::Tensor units_gradient = at::empty_like(layer.units);
  at::Tensor weight_gradient = at::empty_like(layer.weight), bias_gradient = at::empty_like(layer.weight);
  with_dtype(units.scalar_type(), [&](auto element, auto number) {
    using T = decltype(element);
    using Real = decltype(number);
    const Backward<Real> job{layer.n_units,
                             layer.n_rows,
                             gradients.const_data_ptr<Real>(),
                             layer.units.const_data_ptr(),
                             outputs.const_data_ptr<Real>(),
                             layer.weight.const_data_ptr<Real>(),
                             means.const_data_ptr<Real>(),
                             variances.const_data_ptr<Real>(),
                             data_or_null<Real>(layer.rates),
                             units_gradient.mutable_data_ptr(),
                             weight_gradient.mutable_data_ptr<Real>(),
                             bias_gradient.mutable_data_ptr<Real>()};
    each_row(layer, [&](int64_t begin, int64_t end) { backward_clones<T, Real>(job, begin, end); });
  });
  return {units_gradient, weight_gradient, bias_gradient};
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CPU, library) {
  library.impl("batch_norm_relu_dropout", &hidden_cpu);
  library.impl("batch_norm_relu_dropout_backward", &hidden_backward_cpu);
}

}  // namespace pydyn
