#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "../loss.h"
#include "clones.h"
#include "vector.h"

namespace pydyn {
namespace {

// Rows summed up by one thread: the sums, and so the loss, are the same for any number of threads.
constexpr int64_t kBlockRows = 64;
// Elements that are worth a second core.
constexpr int64_t kGrainElements = int64_t{1} << 14;
// Up to so many classes the lanes are rows, beyond it the classes of one row.
constexpr int64_t kNarrow = 32;

template <typename Real>
struct Job {
  int64_t n_rows, n_classes;
  const Real* class_weight;  // (C,) or null
  Real class_weight_sum;
  const Real* strengths;  // (K,) or null
  const Real* powers;
  LossOptions options;
  const Real* divisors;   // (K,): what is known of them beforehand, or 1
  const int64_t* labels;  // (K, B), -1 for ignored rows
  const void* logits;
  void* gradient;  // or null
  Real* losses;
  Real* margins;
  Real* weights;
  bool* correct;
};

// What the logits of up to kLanes rows come down to, a lane each.
template <typename Real>
struct Rows {
  Reals<Real> largest, second, label_logit;
  Integers<Real> top;  // position of the first largest
  Reals<Real> others;  // sum over all but the top of exp(logit - largest)
  Reals<Real> dot;     // with smoothing: sum_j c_j (largest - logit_j)
};

// What the gradients of these rows are made of: of class j they are exp(logit_j - largest) * scale - smooth * c_j, less
// `at_label` at the label.
template <typename Real>
struct Factors {
  Reals<Real> scale, smooth, at_label;
};

// Takes in the next values. NaN is passed over here, and found in the sum.
template <typename Real>
PYDYN_INLINE void rank(const Reals<Real>& value, Reals<Real>& largest, Reals<Real>& second) {
  const Reals<Real> lesser = value < largest ? value : largest;
  second = lesser > second ? lesser : second;
  largest = value > largest ? value : largest;
}

// Loss, margin, weight and correctness of rows `first` to `first + count`.
template <typename Real>
PYDYN_INLINE Factors<Real> finish_rows(const Job<Real>& job, int64_t model, int64_t first, int64_t count,
                                       const Rows<Real>& rows) {
  // Adds 0, but NaN to a row with +infinity or of nothing but -infinity: those are NaN in torch too.
  const Reals<Real> others = rows.others + (rows.largest - rows.largest);
  const Reals<Real> sum = others + 1;
  const Reals<Real> second = exp_of_negative(rows.second - rows.largest);  // 0 for a single class
  const Reals<Real> margin = (1 - second) / sum;
  const Reals<Real> ambiguity = (others + second) / sum;  // 1 - margin, without its cancellation
  const Reals<Real> log_sum = log_of_one_plus(others);

  const Real strength = job.strengths ? job.strengths[model] : static_cast<Real>(job.options.strength);
  const Real power = job.powers ? job.powers[model] : static_cast<Real>(job.options.power);
  const Real threshold = static_cast<Real>(job.options.threshold);
  Reals<Real> weight = all(Real(1));
  if (threshold == threshold) {
    weight = margin < threshold ? all(1 + strength) : weight;
  } else if (strength != 0) {
    Reals<Real> raised = power == 2 ? ambiguity * ambiguity : ambiguity;
    if (power != 1 && power != 2) {
      for (int64_t lane = 0; lane < count; ++lane) raised[lane] = std::pow(ambiguity[lane], power);
    }
    weight = 1 + strength * raised;
  }

  // By way of memory: writing to a vector's lanes one by one is slow.
  Real label_weights[kLanes], ignored[kLanes], losses[kLanes], margins[kLanes], weights[kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const int64_t label = lane < count ? job.labels[first + lane] : -1;
    ignored[lane] = label < 0 ? Real(1) : Real(0);
    label_weights[lane] = job.class_weight && label >= 0 ? job.class_weight[label] : Real(1);
  }
  const Reals<Real> label_weight = read<Reals<Real>>(label_weights);
  const auto counted = read<Reals<Real>>(ignored) == 0;
  const Real smoothing = static_cast<Real>(job.options.label_smoothing);
  const Real n_classes = static_cast<Real>(job.n_classes);
  Reals<Real> loss = label_weight * ((rows.largest - rows.label_logit) + log_sum);
  Reals<Real> share = label_weight;  // of the probabilities in the gradient
  if (smoothing != 0) {
    loss = (1 - smoothing) * loss + smoothing / n_classes * (rows.dot + job.class_weight_sum * log_sum);
    share = (1 - smoothing) * label_weight + smoothing / n_classes * job.class_weight_sum;
  }
  const Reals<Real> zero{};
  write(counted ? loss : zero, losses);
  write(counted ? weight : zero, weights);
  write(margin, margins);
  const Integers<Real> top = sum == sum ? rows.top : all_integers<Real>(-2);
  for (int64_t lane = 0; lane < count; ++lane) {
    job.losses[first + lane] = losses[lane];
    job.margins[first + lane] = margins[lane];
    job.weights[first + lane] = weights[lane];
    job.correct[first + lane] = top[lane] == job.labels[first + lane];
  }
  const Reals<Real> factor = weight / job.divisors[model];
  return {factor * share / sum, factor * (smoothing / n_classes), factor * (1 - smoothing) * label_weight};
}

// Rows of n_classes into columns kLanes apart; the last of `count` serves for those that are not there.
template <typename T, typename Real>
PYDYN_INLINE void load_columns(const T* rows, int64_t count, int64_t n_classes, Real* columns) {
  int64_t whole = 0;  // classes that went four by four
  if constexpr (std::is_same_v<T, float>) {
    if (count == kLanes) {
      whole = n_classes / 4 * 4;
      for (int64_t lane = 0; lane < kLanes; lane += 4) {
        for (int64_t c = 0; c < whole; c += 4)
          transpose(rows + lane * n_classes + c, n_classes, columns + c * kLanes + lane, kLanes);
      }
    }
  }
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const T* const row = rows + std::min(lane, count - 1) * n_classes;
    for (int64_t c = whole; c < n_classes; ++c) columns[c * kLanes + lane] = static_cast<Real>(row[c]);
  }
}

template <typename T, typename Real>
PYDYN_INLINE void store_columns(const Real* columns, int64_t count, int64_t n_classes, T* rows) {
  int64_t whole = 0;
  if constexpr (std::is_same_v<T, float>) {
    if (count == kLanes) {
      whole = n_classes / 4 * 4;
      for (int64_t lane = 0; lane < kLanes; lane += 4) {
        for (int64_t c = 0; c < whole; c += 4)
          transpose(columns + c * kLanes + lane, kLanes, rows + lane * n_classes + c, n_classes);
      }
    }
  }
  for (int64_t lane = 0; lane < count; ++lane) {
    for (int64_t c = whole; c < n_classes; ++c) store(columns[c * kLanes + lane], rows + lane * n_classes + c);
  }
}

// Up to kLanes rows of few classes, a lane each: `scratch` holds them transposed, (C, kLanes).
template <typename T, typename Real>
PYDYN_INLINE void narrow_rows(const Job<Real>& job, int64_t model, int64_t first, int64_t count, Real* scratch) {
  const int64_t n_classes = job.n_classes;
  load_columns(static_cast<const T*>(job.logits) + first * n_classes, count, n_classes, scratch);
  Rows<Real> rows{};
  rows.largest = rows.second = all(-std::numeric_limits<Real>::infinity());
  Integers<Real> position{};
  for (int64_t c = 0; c < n_classes; ++c, position += 1) {
    const Reals<Real> value = read<Reals<Real>>(scratch + c * kLanes);
    rows.top = value > rows.largest ? position : rows.top;
    rank<Real>(value, rows.largest, rows.second);
  }
  // By way of memory: writing to a vector's lanes one by one is slow.
  Real label_logits[kLanes] = {};
  for (int64_t lane = 0; lane < count; ++lane)
    label_logits[lane] = scratch[std::max<int64_t>(job.labels[first + lane], 0) * kLanes + lane];
  rows.label_logit = read<Reals<Real>>(label_logits);
  position = Integers<Real>{};
  for (int64_t c = 0; c < n_classes; ++c, position += 1) {
    const Reals<Real> distance = read<Reals<Real>>(scratch + c * kLanes) - rows.largest;
    const Reals<Real> value = exp_of_negative(distance);
    write(value, scratch + c * kLanes);
    const Reals<Real> zero{};
    rows.others += rows.top == position ? zero : value;
    if (job.options.label_smoothing != 0) rows.dot -= distance * (job.class_weight ? job.class_weight[c] : Real(1));
  }
  const Factors<Real> factors = finish_rows(job, model, first, count, rows);
  if (!job.gradient) return;
  for (int64_t c = 0; c < n_classes; ++c) {
    Reals<Real> gradient = read<Reals<Real>>(scratch + c * kLanes) * factors.scale;
    if (job.options.label_smoothing != 0)
      gradient -= factors.smooth * (job.class_weight ? job.class_weight[c] : Real(1));
    write(gradient, scratch + c * kLanes);
  }
  T* const gradient = static_cast<T*>(job.gradient) + first * n_classes;
  for (int64_t lane = 0; lane < count; ++lane) {
    const int64_t label = job.labels[first + lane];
    if (label >= 0) scratch[label * kLanes + lane] -= factors.at_label[lane];
  }
  store_columns(scratch, count, n_classes, gradient);
  for (int64_t lane = 0; lane < count; ++lane) {
    if (job.labels[first + lane] < 0) std::fill_n(gradient + lane * n_classes, n_classes, T(0));
  }
}

// One row of many classes, kLanes of them at a time. Where logits need no conversion, they are read again from the
// nearest cache, and the exponentials wait in the gradient's own place; otherwise both are kept in `scratch`, which
// holds C.
template <typename T, typename Real>
PYDYN_INLINE void wide_row(const Job<Real>& job, int64_t model, int64_t at, Real* scratch) {
  constexpr bool kConverted = !std::is_same_v<T, Real>;
  const int64_t n_classes = job.n_classes;
  const int64_t whole = n_classes / kLanes * kLanes;
  const T* const logits = static_cast<const T*>(job.logits) + at * n_classes;
  T* const gradient = job.gradient ? static_cast<T*>(job.gradient) + at * n_classes : nullptr;
  const Real infinity = std::numeric_limits<Real>::infinity();
  Reals<Real> largest = all(-infinity), second = largest;
  Integers<Real> top{}, position{};
  const auto take = [&](const Reals<Real>& value) __attribute__((always_inline)) {
    top = value > largest ? position : top;
    rank<Real>(value, largest, second);
  };
  for (int64_t c = 0; c < whole; c += kLanes, position += kLanes) {
    const Reals<Real> value = fetch(logits + c);
    if constexpr (kConverted) write(value, scratch + c);
    take(value);
  }
  // What does not fill a vector: logits, later their exponentials, and lanes that are never the largest.
  Real rest[kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane)
    rest[lane] = whole + lane < n_classes ? static_cast<Real>(logits[whole + lane]) : -infinity;
  take(read<Reals<Real>>(rest));
  Real largests[kLanes], seconds[kLanes];
  write(largest, largests);
  write(second, seconds);
  Real first_largest = -infinity, first_second = -infinity;
  int64_t first_top = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const int64_t lane_top = top[lane] + lane;
    const bool above = largests[lane] > first_largest || (largests[lane] == first_largest && lane_top < first_top);
    first_top = above ? lane_top : first_top;
    first_second = std::max({first_second, std::min(first_largest, largests[lane]), seconds[lane]});
    first_largest = std::max(first_largest, largests[lane]);
  }
  const int64_t label = job.labels[at];
  const Real label_logit = static_cast<Real>(logits[std::max<int64_t>(label, 0)]);
  Real dot = 0;
  if (job.options.label_smoothing != 0) {
    for (int64_t c = 0; c < n_classes; ++c)
      dot += (job.class_weight ? job.class_weight[c] : Real(1)) * (first_largest - static_cast<Real>(logits[c]));
  }
  const Real* values = scratch;
  Real* exponentials = scratch;
  if constexpr (!kConverted) {
    values = logits;
    exponentials = gradient;
  }
  // The top is left out of the sum, in which what is small beside it would drown.
  const int64_t top_block = first_top / kLanes * kLanes;
  Reals<Real> sum{};
  const auto exponentiate = [&](const Real* from, Real* to, bool with_top) __attribute__((always_inline)) {
    Reals<Real> value = exp_of_negative(read<Reals<Real>>(from) - first_largest);
    if (gradient) write(value, to);
    if (with_top) value[first_top - top_block] = 0;
    sum += value;
  };
  for (int64_t c = 0; c < std::min(top_block, whole); c += kLanes) exponentiate(values + c, exponentials + c, false);
  if (top_block < whole) exponentiate(values + top_block, exponentials + top_block, true);
  for (int64_t c = top_block + kLanes; c < whole; c += kLanes) exponentiate(values + c, exponentials + c, false);
  exponentiate(rest, rest, top_block == whole);
  Real others = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) others += sum[lane];

  const Rows<Real> row{all(first_largest), all(first_second), all(label_logit), all_integers<Real>(first_top),
                       all(others),        all(dot)};
  const Factors<Real> factors = finish_rows(job, model, at, 1, row);
  if (!gradient) return;
  if (label < 0) {
    std::fill_n(gradient, n_classes, T(0));
    return;
  }
  const auto exponential = [&](int64_t c) { return c < whole ? exponentials[c] : rest[c - whole]; };
  const Real scale = factors.scale[0];
  const Real at_label = exponential(label) * scale - factors.at_label[0];
  const Real smooth = factors.smooth[0];
  if (smooth != 0) {
    for (int64_t c = 0; c < n_classes; ++c) {
      const Real class_share = smooth * (job.class_weight ? job.class_weight[c] : Real(1));
      store(exponential(c) * scale - class_share, gradient + c);
    }
    store(at_label - smooth * (job.class_weight ? job.class_weight[label] : Real(1)), gradient + label);
    return;
  }
  for (int64_t c = 0; c < whole; c += kLanes) store(read<Reals<Real>>(exponentials + c) * scale, gradient + c);
  for (int64_t c = whole; c < n_classes; ++c) store(rest[c - whole] * scale, gradient + c);
  store(at_label, gradient + label);
}

// Rows [begin, end), all of one model.
template <typename T, typename Real>
PYDYN_INLINE void compute_rows(const Job<Real>& job, int64_t model, int64_t begin, int64_t end, Real* scratch) {
  if (job.n_classes > kNarrow) {
    for (int64_t at = begin; at < end; ++at) wide_row<T, Real>(job, model, at, scratch);
  } else {
    for (int64_t at = begin; at < end; at += kLanes)
      narrow_rows<T, Real>(job, model, at, std::min(kLanes, end - at), scratch);
  }
}

PYDYN_CLONES void rows_float(const Job<float>& job, int64_t model, int64_t begin, int64_t end, float* scratch) {
  compute_rows<float>(job, model, begin, end, scratch);
}
PYDYN_CLONES void rows_half(const Job<float>& job, int64_t model, int64_t begin, int64_t end, float* scratch) {
  compute_rows<at::Half>(job, model, begin, end, scratch);
}
PYDYN_CLONES void rows_bfloat16(const Job<float>& job, int64_t model, int64_t begin, int64_t end, float* scratch) {
  compute_rows<at::BFloat16>(job, model, begin, end, scratch);
}
void rows_double(const Job<double>& job, int64_t model, int64_t begin, int64_t end, double* scratch) {
  compute_rows<double>(job, model, begin, end, scratch);
}

// Labels of all rows of all models, -1 where ignored. Refuses those out of range.
std::vector<int64_t> resolve_labels(const LossCall& call) {
  const int64_t* const target = call.target.const_data_ptr<int64_t>();
  const int64_t* const index = call.index.defined() ? call.index.const_data_ptr<int64_t>() : nullptr;
  std::vector<int64_t> labels(static_cast<size_t>(call.n_models * call.n_rows));
  // Shared labels of no model at all have no room here.
  const int64_t n_given = call.labels_shared && call.n_models > 0 ? call.n_rows : call.n_models * call.n_rows;
  for (int64_t at = 0; at < n_given; ++at) {
    if (index) {
      TORCH_CHECK_INDEX(index[at] >= 0 && index[at] < call.n_labels, "ambiguity_cross_entropy: index[", at,
                        "] = ", index[at], " is out of range: target has ", call.n_labels,
                        " labels, so allowed are 0 to ", call.n_labels - 1);
    }
    const int64_t from = index ? index[at] : at;
    const int64_t label = target[from];
    const bool ignored = label == call.options.ignore_index;
    TORCH_CHECK_INDEX(ignored || (label >= 0 && label < call.n_classes), "ambiguity_cross_entropy: target[", from,
                      "] = ", label, " is out of range: logits have ", call.n_classes, " classes, so allowed are 0 to ",
                      call.n_classes - 1, " and ignore_index = ", call.options.ignore_index);
    labels[at] = ignored ? -1 : label;
  }
  for (int64_t at = n_given; at < static_cast<int64_t>(labels.size()); ++at) labels[at] = labels[at - call.n_rows];
  return labels;
}

template <typename Real, typename Function>
LossOutputs compute(const LossCall& call, const Function& compute_rows) {
  const auto& [loss, gradient, divisor, terms, correct] = call.outputs;
  Real* const losses = terms.template mutable_data_ptr<Real>();
  const int64_t n_terms = call.n_models * call.n_rows;
  const std::vector<int64_t> labels = resolve_labels(call);
  const Real* const class_weight = call.class_weight.defined() ? call.class_weight.const_data_ptr<Real>() : nullptr;
  const auto weight_of = [&](int64_t label) {
    return label < 0 ? 0.0 : class_weight ? double{class_weight[label]} : 1.0;
  };

  std::vector<Real> divisors(static_cast<size_t>(call.n_models), Real(1));
  if (call.options.reduction == Reduction::kMean) {
    for (int64_t model = 0; model < call.n_models; ++model) {
      double sum = 0;
      for (int64_t row = 0; row < call.n_rows; ++row) sum += weight_of(labels[model * call.n_rows + row]);
      divisors[model] = static_cast<Real>(sum);
    }
  }
  double class_weight_sum = static_cast<double>(call.n_classes);
  if (class_weight) {
    class_weight_sum = 0;
    for (int64_t c = 0; c < call.n_classes; ++c) class_weight_sum += class_weight[c];
  }

  Job<Real> job{call.n_rows,
                call.n_classes,
                class_weight,
                static_cast<Real>(class_weight_sum),
                call.strengths.defined() ? call.strengths.const_data_ptr<Real>() : nullptr,
                call.powers.defined() ? call.powers.const_data_ptr<Real>() : nullptr,
                call.options,
                divisors.data(),
                labels.data(),
                call.logits.const_data_ptr(),
                gradient.numel() > 0 ? gradient.mutable_data_ptr() : nullptr,
                losses,
                losses + n_terms,
                losses + 2 * n_terms,
                correct.template mutable_data_ptr<bool>()};

  const int64_t blocks_a_model = (call.n_rows + kBlockRows - 1) / kBlockRows;
  const int64_t n_blocks = call.n_models * blocks_a_model;
  struct Sums {
    double loss, weight;
  };
  const auto run = [&](const Job<Real>& job) {
    std::vector<Sums> sums(static_cast<size_t>(n_blocks));
    const int64_t grain = std::max<int64_t>(1, kGrainElements / (kBlockRows * call.n_classes));
    at::parallel_for(0, n_blocks, grain, [&](int64_t begin, int64_t end) {
      const int64_t lanes = call.n_classes > kNarrow ? 1 : kLanes;
      std::vector<Real> scratch(static_cast<size_t>(call.n_classes * lanes + kLanes));
      for (int64_t block = begin; block < end; ++block) {
        const int64_t model = block / blocks_a_model;
        const int64_t first_row = block % blocks_a_model * kBlockRows;
        const int64_t first = model * call.n_rows + first_row;
        const int64_t last = model * call.n_rows + std::min(first_row + kBlockRows, call.n_rows);
        compute_rows(job, model, first, last, scratch.data());
        Sums sum{0, 0};
        for (int64_t at = first; at < last; ++at) {
          sum.loss += double{job.weights[at]} * double{job.losses[at]};
          sum.weight += double{job.weights[at]} * weight_of(labels[at]);
        }
        sums[block] = sum;
      }
    });
    std::vector<Sums> totals(static_cast<size_t>(call.n_models), Sums{0, 0});
    for (int64_t block = 0; block < n_blocks; ++block) {
      totals[block / blocks_a_model].loss += sums[block].loss;
      totals[block / blocks_a_model].weight += sums[block].weight;
    }
    return totals;
  };
  // The sum of weights is known when all rows are done. A gradient in half precision would be rounded twice if it were
  // divided then: there the rows are done twice.
  const bool weighted = call.options.reduction == Reduction::kWeightedMean;
  const bool twice = weighted && job.gradient && call.logits.element_size() == 2;
  if (twice) {
    Job<Real> without_gradient = job;
    without_gradient.gradient = nullptr;
    const std::vector<Sums> totals = run(without_gradient);
    for (int64_t model = 0; model < call.n_models; ++model) {
      if (totals[model].weight != 0) divisors[model] = static_cast<Real>(totals[model].weight);
    }
  }
  const std::vector<Sums> totals = run(job);

  Real* const loss_out = loss.template mutable_data_ptr<Real>();
  Real* const divisor_out = divisor.template mutable_data_ptr<Real>();
  for (int64_t model = 0; model < call.n_models; ++model) {
    const Sums& total = totals[model];
    // Where nothing counted, the loss is 0 / 0 as in torch, but the gradient's zeros stay zeros.
    divisor_out[model] = weighted && !twice && total.weight != 0 ? static_cast<Real>(total.weight) : Real(1);
    if (call.options.reduction != Reduction::kNone)
      loss_out[model] = static_cast<Real>(total.loss / (weighted ? total.weight : double{divisors[model]}));
  }
  if (call.options.reduction == Reduction::kNone) {
    for (int64_t at = 0; at < n_terms; ++at) loss_out[at] = job.weights[at] * job.losses[at];
  }
  return call.outputs;
}

LossOutputs ambiguity_cross_entropy_cpu(const at::Tensor& logits, const at::Tensor& target,
                                        const std::optional<at::Tensor>& index,
                                        const std::optional<at::Tensor>& class_weight,
                                        const std::optional<at::Tensor>& strengths,
                                        const std::optional<at::Tensor>& powers, double strength, double power,
                                        std::optional<double> threshold, double label_smoothing, int64_t ignore_index,
                                        int64_t reduction, bool with_gradient) {
  const LossCall call = prepare_loss(logits, target, index, class_weight, strengths, powers, strength, power, threshold,
                                     label_smoothing, ignore_index, reduction, with_gradient);
  switch (logits.scalar_type()) {
    case at::kDouble:
      return compute<double>(call, rows_double);
    case at::kHalf:
      return compute<float>(call, rows_half);
    case at::kBFloat16:
      return compute<float>(call, rows_bfloat16);
    default:
      return compute<float>(call, rows_float);
  }
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CPU, library) { library.impl("ambiguity_cross_entropy", &ambiguity_cross_entropy_cpu); }

}  // namespace pydyn
