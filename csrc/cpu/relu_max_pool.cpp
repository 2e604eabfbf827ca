#include <ATen/Parallel.h>
#include <torch/library.h>

#include <array>
#include <cstring>
#include <tuple>

#include "../pool.h"
#include "clones.h"
#include "vector.h"

namespace pydyn {
namespace {

// About what one core does in the time that waking a second one takes.
constexpr int64_t kGrainElements = int64_t{1} << 14;
constexpr int kNone = 4;

// Positive numbers are in the order of their bits, read as signed integers; infinity's are the largest of them, but for
// NaN's.
template <typename Integer, Integer kInfinity>
struct Format {
  using Bits = Integer;
  static constexpr int64_t kCount = 64 / sizeof(Integer);
  static constexpr Integer infinity = kInfinity;
};
using HalfFormat = Format<int16_t, 0x7C00>;
using BFloat16Format = Format<int16_t, 0x7F80>;
using FloatFormat = Format<int32_t, 0x7F800000>;
using DoubleFormat = Format<int64_t, 0x7FF0000000000000>;

// Lanes of channels of one window. `Lanes` is a vector of integers or one integer; `Codes` as many bytes.
template <typename Number, typename Lanes, typename Codes>
PYDYN_INLINE void pool(const std::array<const typename Number::Bits*, 4>& pixels, typename Number::Bits* pooled,
                       uint8_t* winner) {
  using Bits = typename Number::Bits;
  constexpr Bits kMagnitude =
      static_cast<Bits>(static_cast<std::make_unsigned_t<Bits>>(~std::make_unsigned_t<Bits>{}) >> 1);
  Lanes best{};
  Lanes code = Lanes{} + static_cast<Bits>(kNone);
  for (int position = 0; position < 4; ++position) {
    const Lanes bits = read<Lanes>(pixels[position]);
    const Lanes magnitude = bits & kMagnitude;
    const Lanes key = magnitude > Number::infinity ? magnitude : bits;  // a NaN has no sign
    const auto wins = key > best;
    best = wins ? key : best;
    code = wins ? Lanes{} + static_cast<Bits>(position) : code;
  }
  write(best, pooled);
  if constexpr (std::is_integral_v<Lanes>)
    *winner = static_cast<uint8_t>(code);
  else
    write(__builtin_convertvector(code, Codes), winner);
}

template <typename Number, typename Lanes, typename Codes>
PYDYN_INLINE void spread(const typename Number::Bits* gradient, const uint8_t* winner,
                         const std::array<typename Number::Bits*, 4>& pixels) {
  using Bits = typename Number::Bits;
  const Lanes bits = read<Lanes>(gradient);
  Lanes code;
  if constexpr (std::is_integral_v<Lanes>)
    code = *winner;
  else
    code = __builtin_convertvector(read<Codes>(winner), Lanes);
  for (int position = 0; position < 4; ++position)
    write(code == Lanes{} + static_cast<Bits>(position) ? bits : Lanes{}, pixels[position]);
}

// Rows [begin, end) of all pooled images; a row is one y of one image.
template <typename Number>
PYDYN_CLONES void pool_rows(const Pooling& job, const typename Number::Bits* images, typename Number::Bits* pooled,
                            uint8_t* winner, int64_t begin, int64_t end) {
  using Bits = typename Number::Bits;
  using Lanes = Vector<Bits, Number::kCount>;
  using Codes = Vector<uint8_t, Number::kCount>;
  const int64_t channels = job.n_channels, rows = job.height / 2, columns = job.width / 2;
  for (int64_t row = begin; row < end; ++row) {
    const Bits* top = images + (row / rows * job.height + row % rows * 2) * job.width * channels;
    const Bits* bottom = top + job.width * channels;
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t in = 2 * column * channels, out = (row * columns + column) * channels;
      int64_t channel = 0;
      const auto at = [&](const Bits* line, int64_t dx)
                          __attribute__((always_inline)) { return line + in + dx * channels + channel; };
      for (; channel + Number::kCount <= channels; channel += Number::kCount)
        pool<Number, Lanes, Codes>({at(top, 0), at(top, 1), at(bottom, 0), at(bottom, 1)}, pooled + out + channel,
                                   winner + out + channel);
      for (; channel < channels; ++channel)
        pool<Number, Bits, uint8_t>({at(top, 0), at(top, 1), at(bottom, 0), at(bottom, 1)}, pooled + out + channel,
                                    winner + out + channel);
    }
  }
}

template <typename Number>
PYDYN_CLONES void spread_rows(const Pooling& job, typename Number::Bits* images, const typename Number::Bits* gradient,
                              const uint8_t* winner, int64_t begin, int64_t end) {
  using Bits = typename Number::Bits;
  using Lanes = Vector<Bits, Number::kCount>;
  using Codes = Vector<uint8_t, Number::kCount>;
  const int64_t channels = job.n_channels, rows = job.height / 2, columns = job.width / 2;
  const int64_t line = job.width * channels;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t y = row % rows;
    Bits* top = images + (row / rows * job.height + 2 * y) * line;
    Bits* bottom = top + line;
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t to = 2 * column * channels, from = (row * columns + column) * channels;
      int64_t channel = 0;
      const auto at = [&](Bits* start, int64_t dx)
                          __attribute__((always_inline)) { return start + to + dx * channels + channel; };
      for (; channel + Number::kCount <= channels; channel += Number::kCount)
        spread<Number, Lanes, Codes>(gradient + from + channel, winner + from + channel,
                                     {at(top, 0), at(top, 1), at(bottom, 0), at(bottom, 1)});
      for (; channel < channels; ++channel)
        spread<Number, Bits, uint8_t>(gradient + from + channel, winner + from + channel,
                                      {at(top, 0), at(top, 1), at(bottom, 0), at(bottom, 1)});
    }
    // What no window covers.
    if (job.width % 2) {
      std::memset(top + line - channels, 0, channels * sizeof(Bits));
      std::memset(bottom + line - channels, 0, channels * sizeof(Bits));
    }
    if (job.height % 2 && y == rows - 1) std::memset(bottom + line, 0, line * sizeof(Bits));
  }
}

template <typename Work>
void with_format(at::ScalarType dtype, const Work& work) {
  if (dtype == at::kHalf)
    work(HalfFormat{});
  else if (dtype == at::kBFloat16)
    work(BFloat16Format{});
  else if (dtype == at::kFloat)
    work(FloatFormat{});
  else
    work(DoubleFormat{});
}

// Calls work(begin, end) over the rows of all pooled images, on all threads.
template <typename Work>
void each_row(const Pooling& job, const Work& work) {
  if (job.n_channels == 0) return;
  const int64_t row_elements = job.width / 2 * job.n_channels;
  at::parallel_for(0, job.n_images * (job.height / 2), std::max<int64_t>(1, kGrainElements / row_elements), work);
}

std::tuple<at::Tensor, at::Tensor> relu_max_pool_cpu(const at::Tensor& images) {
  const Pooling job = prepare_relu_max_pool(images);
  with_format(images.scalar_type(), [&](auto format) {
    using Bits = typename decltype(format)::Bits;
    each_row(job, [&](int64_t begin, int64_t end) {
      pool_rows<decltype(format)>(job, static_cast<const Bits*>(job.images.const_data_ptr()),
                                  static_cast<Bits*>(job.pooled.mutable_data_ptr()),
                                  job.winner.mutable_data_ptr<uint8_t>(), begin, end);
    });
  });
  return {job.pooled, job.winner};
}

at::Tensor relu_max_pool_backward_cpu(const at::Tensor& gradient, const at::Tensor& winner, int64_t height,
                                      int64_t width) {
  const Pooling job = prepare_relu_max_pool_backward(gradient, winner, height, width);
  with_format(gradient.scalar_type(), [&](auto format) {
    using Bits = typename decltype(format)::Bits;
    each_row(job, [&](int64_t begin, int64_t end) {
      spread_rows<decltype(format)>(job, static_cast<Bits*>(job.images.mutable_data_ptr()),
                                    static_cast<const Bits*>(job.pooled.const_data_ptr()),
                                    job.winner.const_data_ptr<uint8_t>(), begin, end);
    });
  });
  return job.images;
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CPU, library) {
  library.impl("relu_max_pool", &relu_max_pool_cpu);
  library.impl("relu_max_pool_backward", &relu_max_pool_backward_cpu);
}

}  // namespace pydyn
