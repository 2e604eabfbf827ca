#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "../images.h"
#include "clones.h"
#include "vector.h"

namespace pydyn {
namespace {

// About what one core writes in the time that waking a second one takes.
constexpr int64_t kGrainElements = int64_t{1} << 14;

// Images of a batch lie anywhere in a pool that is larger than any cache: the next one is fetched while one is written.
constexpr int64_t kCacheLine = 64;

struct Job {
  Augmentation augmentation;
  const uint8_t* images;
  const int64_t* index;
  int64_t index_stride;
  const uint8_t* images_end;
  uint32_t epoch;
  void* out;
  bool channels_last;
  // of each element of a row of pixels
  const float* offset;
  const float* scale;
};

// Bytes, or sums of bytes and weights of 1 / kOne: exact in float.
PYDYN_INLINE float number(uint8_t value) { return static_cast<float>(value); }
PYDYN_INLINE float number(int32_t value) { return static_cast<float>(value) * (1.0f / kOne); }

PYDYN_INLINE Reals<float> numbers(const Bytes& bytes) {
  // By way of 16 bits: compilers widen twofold in vectors, but not fourfold.
  const Shorts shorts = __builtin_convertvector(bytes, Shorts);
  return __builtin_convertvector(__builtin_convertvector(shorts, Integers<float>), Reals<float>);
}
PYDYN_INLINE Reals<float> numbers(const uint8_t* from) { return numbers(read<Bytes>(from)); }
PYDYN_INLINE Reals<float> numbers(const int32_t* from) {
  return __builtin_convertvector(read<Integers<float>>(from), Reals<float>) * (1.0f / kOne);
}

// Bytes [16 quarter, 16 quarter + 16) of sixty-four: each word goes to four lanes, and in each another of its bytes
// down.
template <uint32_t kQuarter>
PYDYN_INLINE Reals<float> numbers_of_quarter(const Words& bytes) {
  constexpr uint32_t kFirst = 4 * kQuarter;
  constexpr Words kWord = {kFirst,     kFirst,     kFirst,     kFirst,     kFirst + 1, kFirst + 1,
                           kFirst + 1, kFirst + 1, kFirst + 2, kFirst + 2, kFirst + 2, kFirst + 2,
                           kFirst + 3, kFirst + 3, kFirst + 3, kFirst + 3};
  constexpr Words kShift = {0, 8, 16, 24, 0, 8, 16, 24, 0, 8, 16, 24, 0, 8, 16, 24};
  const Words lanes = (__builtin_shuffle(bytes, kWord) >> kShift) & 0xFF;
  return __builtin_convertvector(bits_as<Integers<float>>(lanes), Reals<float>);
}

// In vectors, the last of which overlaps the one before.
template <typename Out, typename Value>
PYDYN_INLINE void normalise(const Value* from, const float* offset, const float* scale, int64_t length, Out* out) {
  if (length < kLanes) {
    for (int64_t i = 0; i < length; ++i) store((number(from[i]) - offset[i]) * scale[i], out + i);
    return;
  }
  const auto finish = [&](const Reals<float>& values, int64_t at) __attribute__((always_inline)) {
    store((values - read<Reals<float>>(offset + at)) * read<Reals<float>>(scale + at), out + at);
  };
  int64_t at = 0;
  if constexpr (sizeof(Value) == 1) {
    // Four vectors at once, which take fewer instructions each.
    for (; at + 4 * kLanes <= length; at += 4 * kLanes) {
      const Words bytes = read<Words>(from + at);
      finish(numbers_of_quarter<0>(bytes), at);
      finish(numbers_of_quarter<1>(bytes), at + kLanes);
      finish(numbers_of_quarter<2>(bytes), at + 2 * kLanes);
      finish(numbers_of_quarter<3>(bytes), at + 3 * kLanes);
    }
  }
  for (; at + kLanes <= length; at += kLanes) finish(numbers(from + at), at);
  if (at < length) finish(numbers(from + length - kLanes), length - kLanes);
}

// Which bytes of sixteen make as many whole pixels as there are among them, mirrored.
PYDYN_INLINE Bytes mirror_mask(int64_t channels) {
  const int64_t n_pixels = kLanes / channels;
  Bytes mask{};
  for (int64_t i = 0; i < n_pixels * channels; ++i)
    mask[i] = static_cast<uint8_t>((n_pixels - 1 - i / channels) * channels + i % channels);
  return mask;
}

// Mirrors an image; `to` has room for kLanes bytes more. A vector takes whole pixels; what it writes beyond them, the
// next overwrites. With three channels it also reads a byte too many, behind which the pool may end.
PYDYN_INLINE void mirror(const Job& job, const uint8_t* image, const Bytes& mask, uint8_t* to) {
  const int64_t width = job.augmentation.width, channels = job.augmentation.channels;
  const int64_t step = kLanes / channels;
  for (int64_t y = 0; y < job.augmentation.height; ++y) {
    const uint8_t* const row = image + y * width * channels;
    uint8_t* const out = to + y * width * channels;
    int64_t x = 0;
    if (row + (width - step) * channels + kLanes <= job.images_end) {
      for (; x + step <= width; x += step)
        write(__builtin_shuffle(read<Bytes>(row + (width - x - step) * channels), mask), out + x * channels);
    }
    for (; x < width; ++x) {
      for (int64_t c = 0; c < channels; ++c) out[x * channels + c] = row[(width - 1 - x) * channels + c];
    }
  }
}

// Writes row y of an image that is only cropped: (y + dy, x + dx) of the image for (y, x).
template <typename Out>
PYDYN_INLINE void write_cropped_row(const Job& job, int64_t dy, int64_t dx, const uint8_t* image, int64_t y, Out* out) {
  const Augmentation& augmentation = job.augmentation;
  const int64_t width = augmentation.width, channels = augmentation.channels, length = width * channels;
  const int64_t source_y = inside(y + dy, augmentation.height, augmentation.padding);
  const auto black = [&](int64_t begin, int64_t end) __attribute__((always_inline)) {
    for (int64_t i = begin; i < end; ++i) store((0.0f - job.offset[i]) * job.scale[i], out + i);
  };
  if (source_y < 0) return black(0, length);
  const uint8_t* const row = image + source_y * length;
  // Pixels [first, last) of the output are in the image, the others are padding.
  const int64_t first = std::clamp<int64_t>(-dx, 0, width);
  const int64_t last = std::clamp<int64_t>(width - dx, first, width);
  const auto pad = [&](int64_t begin, int64_t end) {
    if (augmentation.padding == Padding::kZeros) return black(begin * channels, end * channels);
    for (int64_t x = begin; x < end; ++x) {
      const uint8_t* const pixel = row + inside(x + dx, width, augmentation.padding) * channels;
      for (int64_t c = 0; c < channels; ++c)
        store((number(pixel[c]) - job.offset[c]) * job.scale[c], out + x * channels + c);
    }
  };
  pad(0, first);
  normalise(row + (first + dx) * channels, job.offset, job.scale, (last - first) * channels, out + first * channels);
  pad(last, width);
}

// Writes row y of a rotated or shifted image; `pixels` is room for its pixels times kOne.
template <typename Out>
PYDYN_INLINE void write_warped_row(const Job& job, const Placement& placement, const uint8_t* image, int64_t y,
                                   int32_t* pixels, Out* out) {
  const Augmentation& augmentation = job.augmentation;
  for (int64_t x = 0; x < augmentation.width; ++x) {
    int64_t source_y, source_x;
    source_of(augmentation, placement, y, x, source_y, source_x);
    const Taps taps = taps_at(augmentation, source_y, source_x);
    for (int64_t c = 0; c < augmentation.channels; ++c)
      pixels[x * augmentation.channels + c] = value_at(augmentation, image, taps, c);
  }
  normalise(pixels, job.offset, job.scale, augmentation.width * augmentation.channels, out);
}

// Writes outputs [begin, end), whose indices are in range.
template <typename Out>
PYDYN_INLINE void write_images(const Job& job, int64_t begin, int64_t end) {
  const Augmentation& augmentation = job.augmentation;
  const int64_t height = augmentation.height, width = augmentation.width, channels = augmentation.channels;
  const int64_t length = width * channels;
  std::vector<int32_t> pixels(static_cast<size_t>(augmentation.warp ? length : 0));
  std::vector<Out> row(static_cast<size_t>(job.channels_last ? 0 : length));
  std::vector<uint8_t> mirrored(
      static_cast<size_t>(augmentation.flip && !augmentation.warp ? height * length + kLanes : 0));
  const Bytes mask = mirror_mask(channels);
  for (int64_t position = begin; position < end; ++position) {
    const int64_t sample = job.index[position * job.index_stride];
    const uint8_t* image = job.images + sample * height * length;
    Out* const out = static_cast<Out*>(job.out) + position * height * length;
    const int64_t next_sample = job.index[std::min(position + 1, end - 1) * job.index_stride];
    const uint8_t* const next = job.images + next_sample * height * length;
    const Placement placement = place(augmentation, sample, job.epoch);
    int64_t dx = placement.dx;
    if (placement.flipped && !augmentation.warp) {
      mirror(job, image, mask, mirrored.data());
      image = mirrored.data();
      dx = -dx;
    }
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t i = 0; i < length; i += kCacheLine) __builtin_prefetch(next + y * length + i);
      Out* const to = job.channels_last ? out + y * length : row.data();
      if (augmentation.warp) {
        write_warped_row(job, placement, image, y, pixels.data(), to);
      } else {
        write_cropped_row(job, placement.dy, dx, image, y, to);
      }
      if (job.channels_last) continue;
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t x = 0; x < width; ++x) out[(c * height + y) * width + x] = row[x * channels + c];
      }
    }
  }
}

using WriteImages = void (*)(const Job&, int64_t, int64_t);
PYDYN_CLONES void write_float(const Job& job, int64_t begin, int64_t end) { write_images<float>(job, begin, end); }
PYDYN_CLONES void write_half(const Job& job, int64_t begin, int64_t end) { write_images<at::Half>(job, begin, end); }
PYDYN_CLONES void write_bfloat16(const Job& job, int64_t begin, int64_t end) {
  write_images<at::BFloat16>(job, begin, end);
}

void check_range(const int64_t* index, const ImageGather& gather) {
  for (int64_t position = 0; position < gather.n_out; ++position) {
    const int64_t sample = index[position * gather.index_stride];
    TORCH_CHECK_INDEX(sample >= 0 && sample < gather.n_images, "gather_images: index[", position, "] = ", sample,
                      " is out of range: there are ", gather.n_images, " images, so allowed are 0 to ",
                      gather.n_images - 1);
  }
}

at::Tensor gather_images_cpu(const at::Tensor& images, const at::Tensor& index, at::ArrayRef<double> mean,
                             at::ArrayRef<double> std, int64_t crop_padding, std::string_view padding_mode, bool flip,
                             double rotation, double shift, int64_t seed, int64_t epoch,
                             const std::optional<at::Tensor>& epoch_tensor, at::ScalarType dtype, bool channels_last) {
  const ImageGather gather = prepare_gather_images(images, index, mean, std, crop_padding, padding_mode, flip, rotation,
                                                   shift, seed, epoch_tensor, dtype, channels_last);
  const int64_t* const indices = index.const_data_ptr<int64_t>();
  check_range(indices, gather);

  const Augmentation& augmentation = gather.augmentation;
  const int64_t row_size = augmentation.width * augmentation.channels;
  // Tensors, because torch aligns them to cache lines.
  const at::Tensor offsets = images.new_empty({row_size}, at::TensorOptions().dtype(at::kFloat));
  const at::Tensor scales = images.new_empty({row_size}, at::TensorOptions().dtype(at::kFloat));
  float* const offset = offsets.mutable_data_ptr<float>();
  float* const scale = scales.mutable_data_ptr<float>();
  for (int64_t i = 0; i < row_size; ++i) {
    offset[i] = augmentation.offset[i % augmentation.channels];
    scale[i] = augmentation.scale[i % augmentation.channels];
  }
  const Job job{augmentation,
                images.const_data_ptr<uint8_t>(),
                indices,
                gather.index_stride,
                images.const_data_ptr<uint8_t>() + images.numel(),
                static_cast<uint32_t>(epoch_tensor.has_value() ? *epoch_tensor->const_data_ptr<int64_t>() : epoch),
                gather.out.mutable_data_ptr(),
                channels_last,
                offset,
                scale};
  const WriteImages write_images = dtype == at::kFloat ? write_float : dtype == at::kHalf ? write_half : write_bfloat16;
  const int64_t grain = std::max<int64_t>(1, kGrainElements / (augmentation.height * row_size));
  at::parallel_for(0, gather.n_out, grain, [&](int64_t begin, int64_t end) { write_images(job, begin, end); });
  return gather.out;
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CPU, library) { library.impl("gather_images", &gather_images_cpu); }

}  // namespace pydyn
