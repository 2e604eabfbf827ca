#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>
#include <memory>
#include <tuple>
#include <vector>

#include "clones.h"
#include "population.h"
#include "tiny_cnn.h"

namespace pydyn {

void check_range(const char* op, const char* name, const at::Tensor& values, int64_t size) {
  const int64_t* value = values.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < values.numel(); ++i)
    TORCH_CHECK_INDEX(0 <= value[i] && value[i] < size, op, ": ", name, " holds ", value[i], " at position ", i,
                      ", allowed are 0 to ", size - 1);
}

namespace {

// Whether any of `rows` times `columns` vectors holds a number above 0.
PYDYN_CLONES bool any_positive(const float* first, int64_t rows, int64_t row_step, int64_t columns,
                               int64_t column_step) {
  Reals<float> largest{};
  for (int64_t y = 0; y < rows; ++y)
    for (int64_t x = 0; x < columns; ++x) {
      const auto value = read<Reals<float>>(first + (y * row_step + x * column_step) * kLanes);
      largest = value > largest ? value : largest;
    }
  bool any = false;
  for (int64_t lane = 0; lane < kLanes; ++lane) any |= largest[lane] > 0;
  return any;
}

// Marks filters and outputs that are above 0 somewhere: (F1 + F2 + C).
void note_active(const Geometry& geometry, const Activations& activations, uint8_t* active) {
  const TinyCNN& network = geometry.network;
  const float* maps = geometry.deep ? activations.maps.data() : activations.features.data();
  const int64_t row = first_layer_at(geometry, 1, 0, 0) - first_layer_at(geometry, 0, 0, 0);
  const int64_t column = first_layer_at(geometry, 0, 1, 0) - first_layer_at(geometry, 0, 0, 0);
  for (int64_t filter = 0; filter < network.filters[0]; ++filter, ++active)
    *active = *active || any_positive(maps + first_layer_at(geometry, 0, 0, filter) * kLanes, network.rows(0), row,
                                      network.columns(0), column);
  const int64_t windows = network.windows(1);
  for (int64_t filter = 0; filter < network.filters[1]; ++filter, ++active)
    *active = *active || any_positive(activations.features.data() + filter * windows * kLanes, 1, 0, windows, 1);
  for (int64_t output = 0; output < network.n_classes; ++output, ++active)
    *active = *active || any_positive(activations.outputs.data() + output * kLanes, 1, 0, 1, 0);
}

// All images to look at.
struct Images {
  const uint8_t* data;
  int64_t count;

  // Threads take so many images at a time.
  static constexpr int64_t kTurn = 8 * kLanes;
  int64_t turns() const { return (count + kTurn - 1) / kTurn; }

  // Calls work(first, n_images) for sixteen images of a turn after the other, when they are loaded. Lanes behind the
  // last image show the first of them.
  template <typename Work>
  void visit(const Geometry& geometry, int64_t turn, Activations& activations, const Work& work) const {
    const int64_t pixels = geometry.network.height * geometry.network.width;
    for (int64_t first = turn * kTurn; first < std::min((turn + 1) * kTurn, count); first += kLanes) {
      const int64_t n_images = std::min(count - first, kLanes);
      std::array<const uint8_t*, kLanes> lanes;
      for (int64_t lane = 0; lane < kLanes; ++lane)
        lanes[lane] = data + (first + (lane < n_images ? lane : 0)) * pixels;
      load_images(geometry, lanes, activations);
      work(first, n_images);
    }
  }
};

std::unique_ptr<Filters> pack_member(const Geometry& geometry, const float* parameters) {
  auto filters = std::make_unique<Filters>(geometry);
  std::copy_n(parameters, geometry.network.n_parameters(), filters->parameters.data());
  filters->pack(geometry, false);
  return filters;
}

std::tuple<at::Tensor, at::Tensor> population_evaluate_cpu(const at::Tensor& images, const at::Tensor& parameters,
                                                           at::IntArrayRef filters, int64_t n_classes, bool output_relu,
                                                           double mean, double std) {
  const char* op = "population_evaluate";
  const TinyCNN network = prepare_tiny_cnn(op, images, filters, n_classes, output_relu, mean, std);
  check_parameters(op, network, images, parameters);
  const Geometry geometry(network);
  const int64_t members = parameters.size(0), units = network.filters[0] + network.filters[1] + n_classes;
  const Images all_images{images.const_data_ptr<uint8_t>(), images.size(0)};
  std::vector<std::unique_ptr<Filters>> packed;
  for (int64_t member = 0; member < members; ++member)
    packed.push_back(pack_member(geometry, parameters.const_data_ptr<float>() + member * network.n_parameters()));

  at::Tensor predictions = at::empty({members, all_images.count}, images.options());
  at::Tensor active = at::zeros({members, units}, images.options().dtype(at::kBool));
  auto* prediction = predictions.mutable_data_ptr<uint8_t>();
  auto* active_data = active.mutable_data_ptr<bool>();
  struct Worker {
    Activations activations;
    std::vector<uint8_t> positive;
  };
  const auto evaluate = [&](Worker& worker, int64_t turn) {
    all_images.visit(geometry, turn, worker.activations, [&](int64_t first, int64_t count) {
      for (int64_t member = 0; member < members; ++member) {
        forward(geometry, *packed[member], false, worker.activations);
        int32_t classes[kLanes];
        predict(network, worker.activations.outputs.data(), classes);
        for (int64_t lane = 0; lane < count; ++lane)
          prediction[member * all_images.count + first + lane] = static_cast<uint8_t>(classes[lane]);
        note_active(geometry, worker.activations, worker.positive.data() + member * units);
      }
    });
  };
  take_turns(
      all_images.turns(), [&] { return Worker{Activations(geometry), std::vector<uint8_t>(members * units)}; },
      evaluate,
      [&](const Worker& worker) {
        for (int64_t i = 0; i < members * units; ++i) active_data[i] = active_data[i] || worker.positive[i];
      });
  return {predictions, active};
}

at::Tensor ablate_filters_cpu(const at::Tensor& images, const at::Tensor& labels, const at::Tensor& parameters,
                              at::IntArrayRef filters, int64_t n_classes, bool output_relu, double mean, double std) {
  const char* op = "ablate_filters";
  const TinyCNN network = prepare_tiny_cnn(op, images, filters, n_classes, output_relu, mean, std);
  check_labels(op, images, labels);
  check_range(op, "labels", labels, n_classes);
  check_parameters(op, network, images, parameters.unsqueeze(0));
  const Geometry geometry(network);
  const Images all_images{images.const_data_ptr<uint8_t>(), images.size(0)};
  const auto* label = labels.const_data_ptr<int64_t>();
  const auto packed = pack_member(geometry, parameters.const_data_ptr<float>());
  at::Tensor correct = at::zeros({1 + network.filters[0] + network.filters[1]}, labels.options());
  auto* correct_data = correct.mutable_data_ptr<int64_t>();
  struct Worker {
    Activations activations;
    Ablation ablation;
    std::vector<int64_t> hits;
  };
  const auto ablate = [&](Worker& worker, int64_t turn) {
    all_images.visit(geometry, turn, worker.activations, [&](int64_t first, int64_t count) {
      worker.ablation.run(geometry, *packed, worker.activations);
      for (int64_t candidate = 0; candidate < worker.ablation.count(); ++candidate) {
        int32_t classes[kLanes];
        predict(network, worker.ablation.outputs(candidate), classes);
        for (int64_t lane = 0; lane < count; ++lane) worker.hits[candidate] += classes[lane] == label[first + lane];
      }
    });
  };
  take_turns(
      all_images.turns(),
      [&] { return Worker{Activations(geometry), Ablation(geometry), std::vector<int64_t>(correct.numel())}; }, ablate,
      [&](const Worker& worker) {
        for (int64_t i = 0; i < correct.numel(); ++i) correct_data[i] += worker.hits[i];
      });
  return correct;
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CPU, library) {
  library.impl("population_evaluate", &population_evaluate_cpu);
  library.impl("ablate_filters", &ablate_filters_cpu);
}

}  // namespace pydyn
