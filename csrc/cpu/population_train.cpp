#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <tuple>

#include "../in_place.h"
#include "clones.h"
#include "flush.h"
#include "population.h"
#include "tiny_cnn.h"

namespace pydyn {
namespace {

constexpr float kEpsilon = 1e-7f;

struct Step {
  Optimiser optimiser;
  float learning_rate;
  int64_t number;  // from 1
};

// Factors of doubles, rounded once: Keras computes Adam's so.
PYDYN_CLONES void update(const Step& step, const float* __restrict gradient, int64_t size, float* __restrict parameters,
                         float* __restrict first, float* __restrict second) {
  const float rate = step.learning_rate;
  if (step.optimiser == Optimiser::kSgd) {
    for (int64_t i = 0; i < size; ++i) parameters[i] -= rate * gradient[i];
  } else if (step.optimiser == Optimiser::kRmsprop) {
    for (int64_t i = 0; i < size; ++i) {
      second[i] = 0.9f * second[i] + 0.1f * gradient[i] * gradient[i];
      parameters[i] -= rate * gradient[i] / (std::sqrt(second[i]) + kEpsilon);
    }
  } else {
    const auto t = static_cast<double>(step.number);
    const auto corrected = static_cast<float>(rate * std::sqrt(1 - std::pow(0.999, t)) / (1 - std::pow(0.9, t)));
    for (int64_t i = 0; i < size; ++i) {
      first[i] = 0.9f * first[i] + 0.1f * gradient[i];
      second[i] = 0.999f * second[i] + 0.001f * gradient[i] * gradient[i];
      parameters[i] -= corrected * first[i] / (std::sqrt(second[i]) + kEpsilon);
    }
  }
}

struct Data {
  const uint8_t* images;
  const int64_t* labels;
  int64_t batch_size;
  bool clipped;
};

// What a thread needs to train one member after the other.
struct Trainer {
  explicit Trainer(const Geometry& its_geometry)
      : geometry(its_geometry),
        activations(geometry),
        scratch(geometry),
        gradients(geometry),
        filters(geometry),
        slopes(geometry.network.n_classes * kLanes) {}

  // One member's epoch: over `order`, in batches.
  Tally train(const Data& data, const int64_t* order, int64_t n_ordered, Step step, float* parameters, float* moments) {
    const FlushDenormals flushed;
    const int64_t size = geometry.network.n_parameters();
    // A copy, which vectors may read beyond.
    std::copy_n(parameters, size, filters.parameters.data());
    Tally tally;
    for (int64_t start = 0; start < n_ordered; start += data.batch_size, ++step.number) {
      const int64_t end = std::min(start + data.batch_size, n_ordered);
      gradients.clear();
      filters.pack(geometry, true);
      for (int64_t next = start; next < end; next += kLanes)
        add_gradients(data, order + next, std::min(end - next, kLanes), 1.0f / static_cast<float>(end - start), tally);
      update(step, gradients.collect(geometry), size, filters.parameters.data(), moments, moments + size);
    }
    std::copy_n(filters.parameters.data(), size, parameters);
    return tally;
  }

 private:
  // Of up to sixteen images, whose losses weigh `share` each.
  void add_gradients(const Data& data, const int64_t* order, int64_t n_images, float share, Tally& tally) {
    const TinyCNN& network = geometry.network;
    std::array<const uint8_t*, kLanes> images;
    alignas(64) int32_t labels[kLanes];
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      // Lanes without an image of their own show the first one's and count nowhere.
      const int64_t index = order[lane < n_images ? lane : 0];
      images[lane] = data.images + index * network.height * network.width;
      labels[lane] = static_cast<int32_t>(data.labels[index]);
    }
    load_images(geometry, images, activations);
    forward(geometry, filters, true, activations);
    cross_entropy(network, data.clipped, activations.outputs.data(), labels, n_images, share, slopes.data(), tally);
    backward(geometry, filters, activations, slopes.data(), scratch, gradients);
  }

  const Geometry& geometry;
  Activations activations;
  Scratch scratch;
  Gradients gradients;
  Filters filters;
  Buffer slopes;
};

std::tuple<at::Tensor, at::Tensor> population_epoch_cpu(const at::Tensor& images, const at::Tensor& labels,
                                                        const at::Tensor& order, at::Tensor& parameters,
                                                        at::Tensor& moments, const at::Tensor& learning_rates,
                                                        const at::Tensor& optimisers, at::IntArrayRef filters,
                                                        int64_t n_classes, bool output_relu, double mean, double std,
                                                        bool clipped, int64_t step, int64_t batch_size) {
  const char* op = "population_epoch";
  const TinyCNN network = prepare_tiny_cnn(op, images, filters, n_classes, output_relu, mean, std);
  check_training(op, network, images, parameters, moments, order, learning_rates, optimisers, step, batch_size);
  check_labels(op, images, labels);
  check_range(op, "labels", labels, n_classes);
  check_range(op, "order", order, images.size(0));
  check_range(op, "optimisers", optimisers, kOptimisers);
  note_change(parameters);
  note_change(moments);
  const Geometry geometry(network);
  const int64_t members = parameters.size(0), n_ordered = order.size(1), size = network.n_parameters();
  at::Tensor loss = at::empty({members}, parameters.options().dtype(at::kDouble));
  at::Tensor correct = at::empty({members}, labels.options());
  const Data data{images.const_data_ptr<uint8_t>(), labels.const_data_ptr<int64_t>(), batch_size, clipped};
  const int64_t* order_data = order.const_data_ptr<int64_t>();
  const int64_t* optimiser = optimisers.const_data_ptr<int64_t>();
  const float* learning_rate = learning_rates.const_data_ptr<float>();
  float* parameter_data = parameters.mutable_data_ptr<float>();
  float* moment_data = moments.mutable_data_ptr<float>();
  auto* loss_data = loss.mutable_data_ptr<double>();
  auto* correct_data = correct.mutable_data_ptr<int64_t>();
  const auto train = [&](const std::unique_ptr<Trainer>& trainer, int64_t member) {
    const Tally tally = trainer->train(data, order_data + member * n_ordered, n_ordered,
                                       {static_cast<Optimiser>(optimiser[member]), learning_rate[member], step + 1},
                                       parameter_data + member * size, moment_data + member * kMoments * size);
    loss_data[member] = tally.loss;
    correct_data[member] = tally.n_correct;
  };
  take_turns(members, [&] { return std::make_unique<Trainer>(geometry); }, train, [](const auto&) {});
  return {loss, correct};
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CPU, library) { library.impl("population_epoch", &population_epoch_cpu); }

}  // namespace pydyn
