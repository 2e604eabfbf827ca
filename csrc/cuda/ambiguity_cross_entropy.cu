// A release build must not read beyond the logits either.
#undef NDEBUG
#include <algorithm>
#include <cassert>
#include <type_traits>

#include "ambiguity_cross_entropy.h"
#include "reals.h"

namespace pydyn::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
// Rows that a group of lanes takes one after another: enough work to pay for a block's sums.
constexpr int64_t kRowsPerGroup = 4;
constexpr unsigned kAllLanes = 0xffffffff;

constexpr int64_t divide_up(int64_t total, int64_t part) { return (total + part - 1) / part; }

// Lanes that share a row: a power of two, a warp at most.
int lanes_for(int64_t n_classes) {
  int lanes = 1;
  while (lanes < n_classes && lanes < kWarp) lanes *= 2;
  return lanes;
}

int64_t rows_a_block(int64_t n_classes) { return kThreads / lanes_for(n_classes) * kRowsPerGroup; }

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float log_of_one_plus(float x) { return log1pf(x); }
__device__ __forceinline__ double log_of_one_plus(double x) { return log1p(x); }
__device__ __forceinline__ float raise(float x, float power) { return powf(x, power); }
__device__ __forceinline__ double raise(double x, double power) { return pow(x, power); }

// The two largest logits so far. NaN is passed over here, and found in the sum.
template <typename Real>
struct Ranking {
  Real largest, second;
  int64_t top;  // position of the first largest

  __device__ __forceinline__ void take(Real value, int64_t position) {
    if (value > largest) {
      second = largest;
      largest = value;
      top = position;
    } else if (value > second) {
      second = value;
    }
  }

  __device__ __forceinline__ void merge(const Ranking& other) {
    const Real lesser = largest < other.largest ? largest : other.largest;
    second = second > other.second ? second : other.second;
    second = second > lesser ? second : lesser;
    if (other.largest > largest || (other.largest == largest && other.top < top)) {
      largest = other.largest;
      top = other.top;
    }
  }
};

template <int kLanes, typename Real>
__device__ __forceinline__ Real sum_of_lanes(Real value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kAllLanes, value, offset, kLanes);
  return value;
}

// Sums `value` over the block, in an order that depends on nothing but the block's size; the result is thread 0's.
__device__ __forceinline__ LossSums sum_of_block(LossSums value) {
  __shared__ LossSums shared[kThreads];
  shared[threadIdx.x] = value;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) {
      shared[threadIdx.x].loss += shared[threadIdx.x + half].loss;
      shared[threadIdx.x].class_weight += shared[threadIdx.x + half].class_weight;
      shared[threadIdx.x].weight += shared[threadIdx.x + half].weight;
    }
    __syncthreads();
  }
  return shared[0];
}

// A lane's share of a row: packs of kCount neighbours, a whole group's packs apart. Up to kSteps packs stay in
// registers; with kSteps = 0 the row is read again wherever it is needed.
template <typename T, typename Real, int kLanes, int kCount, int kSteps>
struct Share {
  const Pack<T, kCount>* packs;
  int64_t n_packs;  // of the row
  int lane;
  Real kept[kSteps == 0 ? 1 : kSteps * kCount];

  // Calls function(value, position) for each of the lane's logits; what the function writes to value is kept.
  template <typename Function>
  __device__ __forceinline__ void each(bool first_time, const Function& function) {
    if constexpr (kSteps > 0) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const int64_t pack = step * kLanes + lane;
        if (pack >= n_packs) continue;
        if (first_time) {
          const Pack<T, kCount> read = packs[pack];
#pragma unroll
          for (int i = 0; i < kCount; ++i) kept[step * kCount + i] = to_real(read.element[i]);
        }
#pragma unroll
        for (int i = 0; i < kCount; ++i) function(kept[step * kCount + i], pack * kCount + i);
      }
    } else {
      for (int64_t pack = lane; pack < n_packs; pack += kLanes) {
        const Pack<T, kCount> read = packs[pack];
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
          Real value = to_real(read.element[i]);
          function(value, pack * kCount + i);
        }
      }
    }
  }
};

// kLanes threads take a row, a block rows_a_block of one model's.
template <typename T, typename Real, int kLanes, int kCount, int kSteps>
__global__ void __launch_bounds__(kThreads) loss_kernel(const __grid_constant__ LossCall call, int64_t blocks_a_model) {
  const Real* const class_weight = static_cast<const Real*>(call.class_weight);
  const auto weight_of = [&](int64_t c) { return class_weight ? class_weight[c] : Real(1); };
  const int lane = threadIdx.x % kLanes;
  const int64_t model = blockIdx.x / blocks_a_model;
  const int64_t first_row = (blockIdx.x % blocks_a_model) * (kThreads / kLanes) * kRowsPerGroup + threadIdx.x / kLanes;

  const Real smoothing = static_cast<Real>(call.label_smoothing);
  const Real n_classes = static_cast<Real>(call.n_classes);
  Real class_weight_sum = n_classes;
  if (smoothing != 0 && class_weight) {
    class_weight_sum = 0;
    for (int64_t c = lane; c < call.n_classes; c += kLanes) class_weight_sum += class_weight[c];
    class_weight_sum = sum_of_lanes<kLanes>(class_weight_sum);
  }
  const Real strength =
      call.strengths ? static_cast<const Real*>(call.strengths)[model] : static_cast<Real>(call.strength);
  const Real power = call.powers ? static_cast<const Real*>(call.powers)[model] : static_cast<Real>(call.power);
  const Real threshold = static_cast<Real>(call.threshold);
  const Real infinity = static_cast<Real>(INFINITY);

  LossSums sums{0, 0, 0};
  for (int64_t turn = 0; turn < kRowsPerGroup; ++turn) {
    const int64_t wanted_row = first_row + turn * (kThreads / kLanes);
    // All lanes of a warp shuffle: groups without a row of their own repeat the last and write nothing.
    const bool active = wanted_row < call.n_rows;
    const int64_t row = active ? wanted_row : call.n_rows - 1;
    const int64_t at = model * call.n_rows + row;

    const int64_t label_at = call.labels_shared ? row : at;
    if (call.index) {
      const int64_t from = call.index[label_at];
      assert(from >= 0 && from < call.n_labels && "ambiguity_cross_entropy: index out of range");
    }
    const int64_t label = call.target[call.index ? call.index[label_at] : label_at];
    const bool ignored = label == call.ignore_index;
    assert((ignored || (label >= 0 && label < call.n_classes)) && "ambiguity_cross_entropy: target out of range");

    const T* const logits = static_cast<const T*>(call.logits) + at * call.n_classes;
    Share<T, Real, kLanes, kCount, kSteps> share{reinterpret_cast<const Pack<T, kCount>*>(logits),
                                                 call.n_classes / kCount, lane};
    Ranking<Real> ranking{-infinity, -infinity, 0};
    share.each(true, [&](Real& value, int64_t position) { ranking.take(value, position); });
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      Ranking<Real> other;
      other.largest = __shfl_xor_sync(kAllLanes, ranking.largest, offset, kLanes);
      other.second = __shfl_xor_sync(kAllLanes, ranking.second, offset, kLanes);
      other.top = __shfl_xor_sync(kAllLanes, ranking.top, offset, kLanes);
      ranking.merge(other);
    }

    const Real label_logit = ignored ? Real(0) : to_real(logits[label]);
    Real others = 0, dot = 0;
    share.each(false, [&](Real& value, int64_t position) {
      const Real distance = value - ranking.largest;
      if (smoothing != 0) dot -= weight_of(position) * distance;
      value = exponential(distance);
      if (position != ranking.top) others += value;
    });
    others = sum_of_lanes<kLanes>(others);
    if (smoothing != 0) dot = sum_of_lanes<kLanes>(dot);
    // Adds 0, but NaN to a row with +infinity or of nothing but -infinity: those are NaN in torch too.
    others += ranking.largest - ranking.largest;

    const Real sum = 1 + others;
    const Real second = exponential(ranking.second - ranking.largest);  // 0 for a single class
    const Real margin = (1 - second) / sum;
    const Real ambiguity = (others + second) / sum;  // 1 - margin, without its cancellation
    const Real log_sum = log_of_one_plus(others);
    Real weight = 1;
    if (threshold == threshold) {
      if (margin < threshold) weight = 1 + strength;
    } else if (strength != 0) {
      weight = 1 + strength * (power == 1 ? ambiguity : power == 2 ? ambiguity * ambiguity : raise(ambiguity, power));
    }
    const Real label_weight = ignored ? Real(0) : weight_of(label);
    Real loss = label_weight * ((ranking.largest - label_logit) + log_sum);
    Real of_probabilities = label_weight;
    if (smoothing != 0) {
      loss = (1 - smoothing) * loss + smoothing / n_classes * (dot + class_weight_sum * log_sum);
      of_probabilities = (1 - smoothing) * label_weight + smoothing / n_classes * class_weight_sum;
    }
    if (ignored) loss = weight = 0;

    if (active && lane == 0) {
      static_cast<Real*>(call.losses)[at] = loss;
      static_cast<Real*>(call.margins)[at] = margin;
      static_cast<Real*>(call.weights)[at] = weight;
      call.correct[at] = !ignored && ranking.top == label && sum == sum;
      if (call.reduction == LossReduction::kNone) static_cast<Real*>(call.loss)[at] = weight * loss;
      sums.loss += static_cast<double>(weight) * static_cast<double>(loss);
      sums.class_weight += static_cast<double>(label_weight);
      sums.weight += static_cast<double>(weight) * static_cast<double>(label_weight);
    }
    if (!active || !call.gradient) continue;
    const Real scale = weight * of_probabilities / sum;
    const Real smooth = weight * smoothing / n_classes;
    const Real at_label = weight * (1 - smoothing) * label_weight;
    Pack<T, kCount>* const gradient =
        reinterpret_cast<Pack<T, kCount>*>(static_cast<T*>(call.gradient) + at * call.n_classes);
    Pack<T, kCount> written;
    share.each(false, [&](Real& value, int64_t position) {
      const Real e = kSteps > 0 ? value : exponential(value - ranking.largest);
      Real slope = e * scale;
      if (smoothing != 0) slope -= smooth * weight_of(position);
      if (position == label) slope -= at_label;
      store(ignored ? Real(0) : slope, &written.element[position % kCount]);
      if (position % kCount == kCount - 1) gradient[position / kCount] = written;
    });
  }

  const LossSums block_sums = sum_of_block(sums);
  if (threadIdx.x == 0) call.sums[blockIdx.x] = block_sums;
}

// A block adds up a model's sums, and divides.
template <typename Real>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const __grid_constant__ LossCall call, int64_t blocks_a_model) {
  LossSums sums{0, 0, 0};
  for (int64_t block = threadIdx.x; block < blocks_a_model; block += kThreads) {
    const LossSums& of_block = call.sums[blockIdx.x * blocks_a_model + block];
    sums.loss += of_block.loss;
    sums.class_weight += of_block.class_weight;
    sums.weight += of_block.weight;
  }
  sums = sum_of_block(sums);
  if (threadIdx.x != 0) return;
  double divisor = 1;
  if (call.reduction == LossReduction::kMean) divisor = sums.class_weight;
  if (call.reduction == LossReduction::kWeightedMean) divisor = sums.weight;
  // Where nothing counted, the loss is 0 / 0 as in torch, but the gradient's zeros stay zeros.
  static_cast<Real*>(call.divisor)[blockIdx.x] = divisor == 0 ? Real(1) : static_cast<Real>(divisor);
  if (call.reduction != LossReduction::kNone)
    static_cast<Real*>(call.loss)[blockIdx.x] = static_cast<Real>(sums.loss / divisor);
}

template <typename T, typename Real, int kLanes, int kCount, int kSteps>
void launch(const LossCall& call, int64_t blocks_a_model, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(call.n_models * blocks_a_model);
  loss_kernel<T, Real, kLanes, kCount, kSteps><<<blocks, kThreads, 0, stream>>>(call, blocks_a_model);
}

template <typename T, typename Real, int kCount>
void launch_wide(const LossCall& call, int64_t blocks_a_model, cudaStream_t stream) {
  const int64_t steps = divide_up(call.n_classes, kWarp * kCount);
  if (steps * kCount <= 8) {
    launch<T, Real, kWarp, kCount, std::max(1, 8 / kCount)>(call, blocks_a_model, stream);
  } else if (steps * kCount <= 32) {
    launch<T, Real, kWarp, kCount, 32 / kCount>(call, blocks_a_model, stream);
  } else {
    launch<T, Real, kWarp, kCount, 0>(call, blocks_a_model, stream);
  }
}

template <typename T, typename Real>
cudaError_t launch_all(const LossCall& call, cudaStream_t stream) {
  if (call.n_models == 0) return cudaSuccess;
  const int64_t blocks_a_model = divide_up(call.n_rows, rows_a_block(call.n_classes));
  if (call.n_rows > 0) {
    constexpr int kCount = 16 / sizeof(T);
    const bool aligned = call.n_classes % kCount == 0 && reinterpret_cast<uintptr_t>(call.logits) % 16 == 0 &&
                         reinterpret_cast<uintptr_t>(call.gradient) % 16 == 0;
    switch (lanes_for(call.n_classes)) {
      case 1:
        launch<T, Real, 1, 1, 1>(call, blocks_a_model, stream);
        break;
      case 2:
        launch<T, Real, 2, 1, 1>(call, blocks_a_model, stream);
        break;
      case 4:
        launch<T, Real, 4, 1, 1>(call, blocks_a_model, stream);
        break;
      case 8:
        launch<T, Real, 8, 1, 1>(call, blocks_a_model, stream);
        break;
      case 16:
        launch<T, Real, 16, 1, 1>(call, blocks_a_model, stream);
        break;
      default:
        if (aligned) {
          launch_wide<T, Real, kCount>(call, blocks_a_model, stream);
        } else {
          launch_wide<T, Real, 1>(call, blocks_a_model, stream);
        }
    }
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return error;
  }
  finish_kernel<Real><<<static_cast<unsigned>(call.n_models), kThreads, 0, stream>>>(call, blocks_a_model);
  return cudaGetLastError();
}

}  // namespace

int64_t loss_blocks(int64_t n_models, int64_t n_rows, int64_t n_classes) {
  return n_models * divide_up(n_rows, rows_a_block(n_classes));
}

cudaError_t ambiguity_cross_entropy(const LossCall& call, Dtype logits, cudaStream_t stream) {
  return with_number_of(logits, [&](auto number) {
    using T = decltype(number);
    return launch_all<T, Sum<T>>(call, stream);
  });
}

}  // namespace pydyn::cuda
