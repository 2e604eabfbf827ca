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

// Means and scales repeat after so many vectors, whatever the number of channels: after one, or with three channels
// three.
constexpr int64_t kPeriod = 3;

struct Job {
  Augmentation augmentation;
  const uint8_t* images;
  const int64_t* index;
  int64_t index_stride;
  const uint8_t* images_end;
  uint32_t epoch;
  void* out;
  bool channels_last;
};

// Offset and scale of consecutive elements, which are pixels of all channels or of a single one.
struct Pattern {
  Reals<float> offset[kPeriod], scale[kPeriod];
};

PYDYN_INLINE Pattern make_pattern(const Augmentation& augmentation, int64_t first_channel, int64_t n_channels) {
  float offset[kPeriod * kLanes], scale[kPeriod * kLanes];
  for (int64_t i = 0; i < kPeriod * kLanes; ++i) {
    offset[i] = augmentation.offset[first_channel + i % n_channels];
    scale[i] = augmentation.scale[first_channel + i % n_channels];
  }
  Pattern pattern;
  for (int64_t i = 0; i < kPeriod; ++i) {
    pattern.offset[i] = read<Reals<float>>(offset + i * kLanes);
    pattern.scale[i] = read<Reals<float>>(scale + i * kLanes);
  }
  return pattern;
}

// Bytes, or sums of bytes and weights of 1 / kOne: exact in float.
PYDYN_INLINE Reals<float> numbers(const uint8_t* from) { return __builtin_convertvector(widen(from), Reals<float>); }
PYDYN_INLINE Reals<float> numbers(const int32_t* from) {
  return __builtin_convertvector(read<Integers<float>>(from), Reals<float>) * (1.0f / kOne);
}

// Meanwhile fetches as many bytes from `next`. `from` may be read kSlack elements beyond `length`.
template <typename Out, typename Value>
PYDYN_INLINE void normalise(const Pattern& pattern, const Value* from, int64_t length, const uint8_t* next, Out* out) {
  const auto vector = [&](int64_t at, int64_t phase) __attribute__((always_inline)) {
    return (numbers(from + at) - pattern.offset[phase]) * pattern.scale[phase];
  };
  int64_t at = 0;
  for (; at + kPeriod * kLanes <= length; at += kPeriod * kLanes) {
    __builtin_prefetch(next + at);
    for (int64_t i = 0; i < kPeriod; ++i) store(vector(at + i * kLanes, i), out + at + i * kLanes);
  }
  for (int64_t i = 0; at < length; at += kLanes, ++i) {
    if (at + kLanes <= length) {
      store(vector(at, i), out + at);
      continue;
    }
    Out last[kLanes];
    store(vector(at, i), last);
    std::copy_n(last, length - at, out + at);
  }
}

// What may be read or written beyond the end of an image while it is put together.
constexpr int64_t kSlack = kLanes;

// Blackens bytes [0, n) of each row. In vectors that keep what is beyond, where a call for each row would be slow.
PYDYN_INLINE void blacken_columns(uint8_t* image, int64_t height, int64_t row_bytes, int64_t n) {
  Bytes lane;
  for (int64_t i = 0; i < kLanes; ++i) lane[i] = static_cast<uint8_t>(i);
  for (; n > 0; n -= kLanes, image += kLanes) {
    const Bytes kept = bits_as<Bytes>(lane >= static_cast<uint8_t>(std::min(n, kLanes)));
    for (int64_t y = 0; y < height; ++y) write(read<Bytes>(image + y * row_bytes) & kept, image + y * row_bytes);
  }
}

// Not a call of memcpy, which compilers make of a loop.
PYDYN_INLINE void copy_pixel(const uint8_t* from, int64_t channels, uint8_t* to) {
  to[0] = from[0];
  if (channels > 1) to[1] = from[1];
  if (channels > 2) to[2] = from[2];
  if (channels > 3) to[3] = from[3];
}

// Which bytes of sixteen make as many whole pixels as there are among them, mirrored.
PYDYN_INLINE Bytes mirror_mask(int64_t channels) {
  const int64_t n_pixels = kLanes / channels;
  Bytes mask{};
  for (int64_t i = 0; i < n_pixels * channels; ++i)
    mask[i] = static_cast<uint8_t>((n_pixels - 1 - i / channels) * channels + i % channels);
  return mask;
}

// Mirrors a row left to right. A vector takes whole pixels; with three channels it also reads a byte too many, and
// writes it, for the next to overwrite.
PYDYN_INLINE void mirror_row(const Job& job, const uint8_t* row, const Bytes& mask, uint8_t* to) {
  const int64_t width = job.augmentation.width, channels = job.augmentation.channels;
  const int64_t step = kLanes / channels;
  if (width < step || row + (width - step) * channels + kLanes > job.images_end) {
    for (int64_t x = 0; x < width; ++x) copy_pixel(row + (width - 1 - x) * channels, channels, to + x * channels);
    return;
  }
  const auto mirror_step = [&](int64_t x) __attribute__((always_inline)) {
    write(shuffle(read<Bytes>(row + (width - x - step) * channels), mask), to + x * channels);
  };
  for (int64_t x = 0; x + step < width; x += step) mirror_step(x);
  mirror_step(width - step);
}

// Puts an image together that is cropped and flipped. Up to a row and kSlack bytes before and behind `to`, (H, W, C),
// are written as well.
PYDYN_INLINE void crop(const Job& job, const Placement& placement, const uint8_t* image, const Bytes& mask,
                       uint8_t* to) {
  const Augmentation& augmentation = job.augmentation;
  const int64_t height = augmentation.height, width = augmentation.width, channels = augmentation.channels;
  const int64_t row_bytes = width * channels, size = height * row_bytes;
  // Rows [top, bottom) and columns [left, right) come from the image, (y + dy, x + dx) for (y, x) and, if it is
  // flipped, of the mirrored image; the others are padding.
  const int64_t dy = placement.dy, dx = placement.flipped ? -placement.dx : placement.dx;
  const int64_t top = std::clamp<int64_t>(-dy, 0, height), bottom = std::clamp<int64_t>(height - dy, top, height);
  const int64_t left = std::clamp<int64_t>(-dx, 0, width), right = std::clamp<int64_t>(width - dx, left, width);
  // Whole rows are moved: what runs over into their neighbours is padding there, and is overwritten.
  const int64_t move = (dy * width + dx) * channels;
  if (left < right && placement.flipped) {
    for (int64_t y = top; y < bottom; ++y)
      mirror_row(job, image + (y + dy) * row_bytes, mask, to + y * row_bytes - dx * channels);
  } else if (left < right) {
    const int64_t begin = std::max(top * row_bytes, -move), end = std::min(bottom * row_bytes, size - move);
    if (begin < end) std::memcpy(to + begin, image + begin + move, static_cast<size_t>(end - begin));
  }
  if (augmentation.padding == Padding::kZeros) {
    std::memset(to, 0, static_cast<size_t>(top * row_bytes));
    std::memset(to + bottom * row_bytes, 0, static_cast<size_t>(size - bottom * row_bytes));
    blacken_columns(to, height, row_bytes, left * channels);
    blacken_columns(to + right * channels, height, row_bytes, row_bytes - right * channels);
    return;
  }
  for (int64_t y = 0; y < height; ++y) {
    const uint8_t* const row = image + inside(y + dy, height, augmentation.padding) * row_bytes;
    const auto pad = [&](int64_t first, int64_t last) {
      for (int64_t x = first; x < last; ++x) {
        const int64_t u = inside(x + dx, width, augmentation.padding);
        const int64_t source_x = placement.flipped ? width - 1 - u : u;
        copy_pixel(row + source_x * channels, channels, to + y * row_bytes + x * channels);
      }
    };
    const bool from_image = y >= top && y < bottom;
    pad(0, from_image ? left : width);
    if (from_image) pad(right, width);
  }
}

// From (pixel, channel) to (channel, pixel).
template <int64_t kChannels>
PYDYN_INLINE void split_channels(const uint8_t* pixels, int64_t n_pixels, uint8_t* to) {
  for (int64_t i = 0; i < n_pixels; ++i) {
    for (int64_t c = 0; c < kChannels; ++c) to[c * n_pixels + i] = pixels[i * kChannels + c];
  }
}
PYDYN_INLINE void split_channels(const uint8_t* pixels, int64_t n_pixels, int64_t channels, uint8_t* to) {
  switch (channels) {
    case 2:
      return split_channels<2>(pixels, n_pixels, to);
    case 3:
      return split_channels<3>(pixels, n_pixels, to);
    default:
      return split_channels<4>(pixels, n_pixels, to);
  }
}

// Row y of a rotated or shifted image, times kOne.
PYDYN_INLINE void warp_row(const Job& job, const Placement& placement, const uint8_t* image, int64_t y, int32_t* to) {
  const Augmentation& augmentation = job.augmentation;
  const int64_t pixel_stride = job.channels_last ? augmentation.channels : 1;
  const int64_t channel_stride = job.channels_last ? 1 : augmentation.width;
  for (int64_t x = 0; x < augmentation.width; ++x) {
    int64_t source_y, source_x;
    source_of(augmentation, placement, y, x, source_y, source_x);
    const Taps taps = taps_at(augmentation, source_y, source_x);
    for (int64_t c = 0; c < augmentation.channels; ++c)
      to[x * pixel_stride + c * channel_stride] = value_at(augmentation, image, taps, c);
  }
}

// Writes outputs [begin, end), whose indices are in range.
template <typename Out>
PYDYN_INLINE void write_images(const Job& job, int64_t begin, int64_t end) {
  const Augmentation& augmentation = job.augmentation;
  const int64_t height = augmentation.height, width = augmentation.width, channels = augmentation.channels;
  const int64_t row_size = width * channels, n_pixels = height * width, size = n_pixels * channels;
  // An output consists of planes: of one with all channels, or of one for each.
  const int64_t n_planes = job.channels_last ? 1 : channels;
  const int64_t plane = size / n_planes, plane_row = row_size / n_planes;
  Pattern patterns[kMaxChannels];
  for (int64_t c = 0; c < n_planes; ++c) patterns[c] = make_pattern(augmentation, c, channels / n_planes);

  const Bytes mask = mirror_mask(channels);
  std::vector<int32_t> warped(static_cast<size_t>(augmentation.warp ? row_size + kSlack : 0));
  std::vector<uint8_t> bytes(static_cast<size_t>(augmentation.warp ? 0 : size + 2 * (row_size + kSlack)));
  std::vector<uint8_t> planar(static_cast<size_t>(augmentation.warp || n_planes == 1 ? 0 : size + kSlack));
  for (int64_t position = begin; position < end; ++position) {
    const int64_t sample = job.index[position * job.index_stride];
    const uint8_t* const image = job.images + sample * size;
    Out* const out = static_cast<Out*>(job.out) + position * size;
    const int64_t next_sample = job.index[std::min(position + 1, end - 1) * job.index_stride];
    const uint8_t* const next = job.images + next_sample * size;
    const Placement placement = place(augmentation, sample, job.epoch);
    if (augmentation.warp) {
      for (int64_t y = 0; y < height; ++y) {
        warp_row(job, placement, image, y, warped.data());
        for (int64_t c = 0; c < n_planes; ++c)
          normalise(patterns[c], warped.data() + c * plane_row, plane_row, next + y * row_size + c * plane_row,
                    out + c * plane + y * plane_row);
      }
      continue;
    }
    // In bytes first, which stay in the nearest cache, so that the output is written in one go.
    uint8_t* ready = bytes.data() + row_size + kSlack;
    crop(job, placement, image, mask, ready);
    if (n_planes > 1) {
      split_channels(ready, n_pixels, channels, planar.data());
      ready = planar.data();
    }
    for (int64_t c = 0; c < n_planes; ++c)
      normalise(patterns[c], ready + c * plane, plane, next + c * plane, out + c * plane);
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
  const Job job{augmentation,
                images.const_data_ptr<uint8_t>(),
                indices,
                gather.index_stride,
                images.const_data_ptr<uint8_t>() + images.numel(),
                static_cast<uint32_t>(epoch_tensor.has_value() ? *epoch_tensor->const_data_ptr<int64_t>() : epoch),
                gather.out.mutable_data_ptr(),
                channels_last};
  const WriteImages write_images = dtype == at::kFloat ? write_float : dtype == at::kHalf ? write_half : write_bfloat16;
  const int64_t grain =
      std::max<int64_t>(1, kGrainElements / (augmentation.height * augmentation.width * augmentation.channels));
  at::parallel_for(0, gather.n_out, grain, [&](int64_t begin, int64_t end) { write_images(job, begin, end); });
  return gather.out;
}

}  // namespace

TORCH_LIBRARY_IMPL(pydyn, CPU, library) { library.impl("gather_images", &gather_images_cpu); }

}  // namespace pydyn
