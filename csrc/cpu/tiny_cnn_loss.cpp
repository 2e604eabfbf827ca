#include "clones.h"
#include "tiny_cnn.h"

namespace pydyn {
namespace {

using Number = Reals<float>;
using Labels = Integers<float>;

constexpr Labels kLane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

PYDYN_INLINE Number output_at(const TinyCNN& network, const float* outputs, int64_t number) {
  const Number output = read<Number>(outputs + number * kLanes);
  if (!network.output_relu) return output;
  return output < Number{} ? Number{} : output;
}

// The first of the largest outputs of each image.
PYDYN_INLINE Labels first_largest(const TinyCNN& network, const float* outputs, Number& largest) {
  largest = output_at(network, outputs, 0);
  Labels best{};
  for (int64_t number = 1; number < network.n_classes; ++number) {
    const Number output = output_at(network, outputs, number);
    best = output > largest ? Labels{} + static_cast<int32_t>(number) : best;
    largest = output > largest ? output : largest;
  }
  return best;
}

PYDYN_CLONES void predict_lanes(const TinyCNN& network, const float* outputs, int32_t* predictions) {
  Number largest;
  write(first_largest(network, outputs, largest), predictions);
}

// Losses of probabilities 1 - 1e-7 and 1e-7, in float32.
constexpr float kLeastLoss = 0x1p-23f, kMostLoss = 16.1180957f;

PYDYN_CLONES void cross_entropy_lanes(const TinyCNN& network, bool clipped, const float* outputs, const int32_t* labels,
                                      int64_t n_images, float share, float* slopes, float* losses, int32_t* correct) {
  const Labels label = read<Labels>(labels);
  const auto counts = kLane < Labels{} + static_cast<int32_t>(n_images);
  Number largest, own{}, others{};
  const Labels best = first_largest(network, outputs, largest);
  for (int64_t number = 0; number < network.n_classes; ++number) {
    const Labels each = Labels{} + static_cast<int32_t>(number);
    const Number output = output_at(network, outputs, number);
    const Number power = exp_of_negative(output - largest);
    own = label == each ? output : own;
    others += best == each ? Number{} : power;  // the largest one's is 1, beside which small ones would be lost
    write(power, slopes + number * kLanes);
  }
  Number loss = log_of_one_plus(others) + (largest - own);
  Number scale = all(share) / (others + 1.0f);
  if (clipped) {
    scale = loss < all(kLeastLoss) ? Number{} : scale;
    scale = loss > all(kMostLoss) ? Number{} : scale;
    loss = loss < all(kLeastLoss) ? all(kLeastLoss) : loss;
    loss = loss > all(kMostLoss) ? all(kMostLoss) : loss;
  }
  write(counts ? loss : Number{}, losses);
  scale = counts ? scale : Number{};
  // Of its own class an image's gradient is p - 1: less the other classes' probabilities, which may be small beside 1.
  Number rest{};
  for (int64_t number = 0; number < network.n_classes; ++number) {
    const Number slope = read<Number>(slopes + number * kLanes) * scale;
    rest += label == Labels{} + static_cast<int32_t>(number) ? Number{} : slope;
    write(slope, slopes + number * kLanes);
  }
  for (int64_t number = 0; number < network.n_classes; ++number) {
    float* at = slopes + number * kLanes;
    Number slope = label == Labels{} + static_cast<int32_t>(number) ? -rest : read<Number>(at);
    if (network.output_relu) slope = read<Number>(outputs + number * kLanes) > Number{} ? slope : Number{};
    write(slope, at);
  }
  write((best == label) & counts, correct);
}

}  // namespace

void predict(const TinyCNN& network, const float* outputs, int32_t* predictions) {
  predict_lanes(network, outputs, predictions);
}

void cross_entropy(const TinyCNN& network, bool clipped, const float* outputs, const int32_t* labels, int64_t n_images,
                   float share, float* slopes, Tally& tally) {
  alignas(64) float losses[kLanes];
  alignas(64) int32_t correct[kLanes];
  cross_entropy_lanes(network, clipped, outputs, labels, n_images, share, slopes, losses, correct);
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    tally.loss += losses[lane];
    tally.n_correct -= correct[lane];  // true is -1
  }
}

}  // namespace pydyn
