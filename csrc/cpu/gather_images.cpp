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

// In vectors, the last of which overlaps the one before.
template <typename Out, typename Value>
PYDYN_INLINE void normalise(const Value* from, const float* offset, const float* scale, int64_t length, Out* out) {
  if (length < kLanes) {
    for (int64_t i = 0; i < length; ++i) store((number(from[i]) - offset[i]) * scale[i], out + i);
    return;
  }
  const auto vector = [&](int64_t at) __attribute__((always_inline)) {
    store((numbers(from + at) - read<Reals<float>>(offset + at)) * read<Reals<float>>(scale + at), out + at);
  };
  for (int64_t at = 0; at + kLanes <= length; at += kLanes) vector(at);
  if (length % kLanes != 0) vector(length - kLanes);
}

// Which bytes of sixteen make as many whole pixels as there are among them, mirrored.
PYDYN_INLINE Bytes mirror_mask(int64_t channels) {
  const int64_t n_pixels = kLanes / channels;
  Bytes mask{};
  for (int64_t i = 0; i < n_pixels * channels; ++i)
    mask[i] = static_cast<uint8_t>((n_pixels - 1 - i / channels) * channels + i % channels);
  return mask;
}

// As `normalise`, of `n_pixels` pixels mirrored. A vector takes whole pixels; what it writes beyond them, the next
// overwrites.
template <typename Out>
PYDYN_INLINE void normalise_mirrored(const Job& job, const uint8_t* from, int64_t n_pixels, const Bytes& mask,
                                     Out* out) {
  const int64_t channels = job.augmentation.channels;
  const int64_t step = kLanes / channels;
  const int64_t needed = (kLanes + channels - 1) / channels;
  int64_t done = 0;
  // A vector of three channels reads a byte too many, behind which the pool may end.
  if (n_pixels >= needed && from + (n_pixels - step) * channels + kLanes <= job.images_end) {
    const auto vector = [&](int64_t pixel) __attribute__((always_inline)) {
      const Bytes bytes = read<Bytes>(from + (n_pixels - pixel - step) * channels);
      store((numbers(__builtin_shuffle(bytes, mask)) - read<Reals<float>>(job.offset)) * read<Reals<float>>(job.scale),
            out + pixel * channels);
    };
    for (; done + needed <= n_pixels; done += step) vector(done);
    if (done < n_pixels) {
      vector(n_pixels - needed);
      done = n_pixels - needed + step;
    }
  }
  for (; done < n_pixels; ++done) {
    for (int64_t c = 0; c < channels; ++c) {
      const float value = number(from[(n_pixels - 1 - done) * channels + c]);
      store((value - job.offset[c]) * job.scale[c], out + done * channels + c);
    }
  }
}

// Writes row y of an image that is only cropped and mirrored.
template <typename Out>
PYDYN_INLINE void write_cropped_row(const Job& job, const Placement& placement, const uint8_t* image, int64_t y,
                                    const Bytes& mask, Out* out) {
  const Augmentation& augmentation = job.augmentation;
  const int64_t width = augmentation.width, channels = augmentation.channels, length = width * channels;
  const int64_t source_y = inside(y + placement.dy, augmentation.height, augmentation.padding);
  const auto black = [&](int64_t begin, int64_t end) __attribute__((always_inline)) {
    for (int64_t i = begin; i < end; ++i) store((0.0f - job.offset[i]) * job.scale[i], out + i);
  };
  if (source_y < 0) return black(0, length);
  const uint8_t* const row = image + source_y * length;
  // Pixels [first, last) of the output are in the image, the others are padding.
  const int64_t move = placement.flipped ? -placement.dx : placement.dx;
  const int64_t first = std::clamp<int64_t>(-move, 0, width);
  const int64_t last = std::clamp<int64_t>(width - move, first, width);
  const auto pad = [&](int64_t begin, int64_t end) {
    if (augmentation.padding == Padding::kZeros) return black(begin * channels, end * channels);
    for (int64_t x = begin; x < end; ++x) {
      const int64_t u = placement.flipped ? width - 1 - x : x;
      const uint8_t* const pixel = row + inside(u + placement.dx, width, augmentation.padding) * channels;
      for (int64_t c = 0; c < channels; ++c)
        store((number(pixel[c]) - job.offset[c]) * job.scale[c], out + x * channels + c);
    }
  };
  pad(0, first);
  if (placement.flipped) {
    const uint8_t* const from = row + (width - last + placement.dx) * channels;
    normalise_mirrored(job, from, last - first, mask, out + first * channels);
  } else {
    const uint8_t* const from = row + (first + placement.dx) * channels;
    normalise(from, job.offset, job.scale, (last - first) * channels, out + first * channels);
  }
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
  const Bytes mask = mirror_mask(channels);
  for (int64_t position = begin; position < end; ++position) {
    const int64_t sample = job.index[position * job.index_stride];
    const uint8_t* const image = job.images + sample * height * length;
    Out* const out = static_cast<Out*>(job.out) + position * height * length;
    const int64_t next_sample = job.index[std::min(position + 1, end - 1) * job.index_stride];
    const uint8_t* const next = job.images + next_sample * height * length;
    const Placement placement = place(augmentation, sample, job.epoch);
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t i = 0; i < length; i += kCacheLine) __builtin_prefetch(next + y * length + i);
      Out* const to = job.channels_last ? out + y * length : row.data();
      if (augmentation.warp) {
        write_warped_row(job, placement, image, y, pixels.data(), to);
      } else {
        write_cropped_row(job, placement, image, y, mask, to);
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
  std::vector<float> offset(static_cast<size_t>(row_size)), scale(static_cast<size_t>(row_size));
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
                offset.data(),
                scale.data()};
  const WriteImages write_images = dtype == at::kFloat ? write_float : dtype == at::kHalf ? write_half : write_bfloat16;
  const int64_t grain = std::max<int64_t>(1, kGrainElements / (augmentation.height * row_size));
  at::parallel_for(0, gather.n_out, grain, [&](int64_t begin, int64_t end) { write_images(job, begin, end); });
  return gather.out;
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CPU, library) { library.impl("gather_images", &gather_images_cpu); }

}  // namespace pydyn
