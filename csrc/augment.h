// Random crop, rotation, shift and flip of one image of a pool: where an output pixel comes from. Free of torch, the
// same source for the CPU and for CUDA, and the same bits: random numbers are counter-based, everything per pixel is
// integer arithmetic, and no floating-point product that is rounded is added to anything, so that no compiler can fuse
// it.
//
// The image is rotated about its centre by an angle of U(-rotation, rotation), moved down by U(-shift, shift) of its
// height and to the right by as much of its width, padded by `crop_padding` pixels, cropped back to its size at a
// random place and, with probability 1/2, mirrored left to right. Read backwards, for the output pixel (y, x):
//
//     u = flipped ? W - 1 - x : x
//     (y + dy, u + dx)                                 dy, dx of {-crop_padding, ..., crop_padding}
//     rotated by minus the angle about the shifted centre; bilinear between the four pixels around
//
// Coordinates are fixed-point with 16 fractional bits, bilinear weights have 8, so that a pixel's value is a multiple
// of 1/65536 and exact in float32.

#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define PYDYN_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define PYDYN_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace pydyn {

constexpr int64_t kMaxChannels = 4;
constexpr int kFractionBits = 16;
constexpr int64_t kOne = int64_t{1} << kFractionBits;

// What lies outside an image: black, the image mirrored at its outermost pixels, or the outermost pixels.
enum class Padding : int32_t { kZeros, kReflect, kEdge };

struct Augmentation {
  int64_t height;
  int64_t width;
  int64_t channels;
  int64_t crop_padding;  // pixels
  Padding padding;
  bool flip;
  bool warp;       // whether there is any rotation or shift
  float rotation;  // radians, 0 to pi
  float shift;     // share of height and width
  uint64_t seed;
  // out = (pixel - offset) * scale: of pixels of 0 to 255, per channel
  float offset[kMaxChannels];
  float scale[kMaxChannels];
};

// What one image got in one epoch.
struct Placement {
  int64_t dy;
  int64_t dx;
  bool flipped;
  // Fixed-point: cosine and sine of the angle, distance in pixels.
  int64_t cosine;
  int64_t sine;
  int64_t shift_y;
  int64_t shift_x;
};

struct Draws {
  uint32_t word[4];
};

// Philox4x32-10: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011).
PYDYN_HOST_DEVICE Draws philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
  uint32_t k0 = static_cast<uint32_t>(key);
  uint32_t k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

// Uniform in [-1, 1), of 24 bits, so that its product with a float is exact.
PYDYN_HOST_DEVICE double symmetric(uint32_t word) { return static_cast<double>(word >> 8) * 0x1p-23 - 1.0; }

// To the nearest integer, ties to even, for |value| < 2^51.
PYDYN_HOST_DEVICE int64_t to_nearest(double value) {
  const double shifted = value + 0x1.8p52;
  return static_cast<int64_t>(shifted - 0x1.8p52);
}

// Taylor series to x^27, good to 1e-14 for |angle| <= pi. Each product is divided before it is added.
PYDYN_HOST_DEVICE void rotate(double angle, Placement& placement) {
  const double square = angle * angle;
  double cosine = 1, sine = angle, cosine_term = 1, sine_term = angle;
  for (int k = 2; k <= 26; k += 2) {
    cosine_term = -(cosine_term * square) / static_cast<double>((k - 1) * k);
    sine_term = -(sine_term * square) / static_cast<double>(k * (k + 1));
    cosine += cosine_term;
    sine += sine_term;
  }
  placement.cosine = to_nearest(cosine * static_cast<double>(kOne));
  placement.sine = to_nearest(sine * static_cast<double>(kOne));
}

PYDYN_HOST_DEVICE Placement place(const Augmentation& augmentation, int64_t sample, uint32_t epoch) {
  const uint32_t low = static_cast<uint32_t>(sample);
  const uint32_t high = static_cast<uint32_t>(static_cast<uint64_t>(sample) >> 32);
  Placement placement{0, 0, false, kOne, 0, 0, 0};
  if (augmentation.crop_padding > 0 || augmentation.flip) {
    const Draws draws = philox(augmentation.seed, low, high, epoch, 0);
    const uint64_t places = static_cast<uint64_t>(2 * augmentation.crop_padding + 1);
    placement.dy = static_cast<int64_t>((draws.word[0] * places) >> 32) - augmentation.crop_padding;
    placement.dx = static_cast<int64_t>((draws.word[1] * places) >> 32) - augmentation.crop_padding;
    placement.flipped = augmentation.flip && (draws.word[2] >> 31) != 0;
  }
  if (augmentation.warp) {
    const Draws draws = philox(augmentation.seed, low, high, epoch, 1);
    rotate(symmetric(draws.word[0]) * augmentation.rotation, placement);
    // As floats, so that the products with a side in pixels are exact too.
    const float share_y = static_cast<float>(symmetric(draws.word[1]) * augmentation.shift);
    const float share_x = static_cast<float>(symmetric(draws.word[2]) * augmentation.shift);
    placement.shift_y = to_nearest(static_cast<double>(share_y) * static_cast<double>(augmentation.height * kOne));
    placement.shift_x = to_nearest(static_cast<double>(share_x) * static_cast<double>(augmentation.width * kOne));
  }
  return placement;
}

// The pixel that stands at a coordinate of the padded image, or -1 for black.
PYDYN_HOST_DEVICE int64_t inside(int64_t at, int64_t size, Padding padding) {
  if (at >= 0 && at < size) return at;
  if (padding == Padding::kZeros) return -1;
  if (padding == Padding::kEdge || size == 1) return at < 0 ? 0 : size - 1;
  const int64_t period = 2 * (size - 1);
  const int64_t phase = ((at % period) + period) % period;
  return phase < size ? phase : period - phase;
}

// The fixed-point coordinates in the image of an output pixel.
PYDYN_HOST_DEVICE void source_of(const Augmentation& augmentation, const Placement& placement, int64_t y, int64_t x,
                                 int64_t& source_y, int64_t& source_x) {
  const int64_t centre_y = (augmentation.height - 1) * (kOne / 2);
  const int64_t centre_x = (augmentation.width - 1) * (kOne / 2);
  const int64_t u = placement.flipped ? augmentation.width - 1 - x : x;
  const int64_t v_y = (y + placement.dy) * kOne - centre_y - placement.shift_y;
  const int64_t v_x = (u + placement.dx) * kOne - centre_x - placement.shift_x;
  source_y = ((placement.cosine * v_y - placement.sine * v_x + kOne / 2) >> kFractionBits) + centre_y;
  source_x = ((placement.sine * v_y + placement.cosine * v_x + kOne / 2) >> kFractionBits) + centre_x;
}

// The four pixels around a fixed-point coordinate and their weights, which add up to kOne.
struct Taps {
  int64_t pixel[4];  // y * width + x; a black one has weight 0 and pixel 0
  int32_t weight[4];
};

PYDYN_HOST_DEVICE Taps taps_at(const Augmentation& augmentation, int64_t source_y, int64_t source_x) {
  const int64_t top = source_y >> kFractionBits;
  const int64_t left = source_x >> kFractionBits;
  const int32_t below = static_cast<int32_t>((source_y >> (kFractionBits - 8)) & 255);
  const int32_t right = static_cast<int32_t>((source_x >> (kFractionBits - 8)) & 255);
  Taps taps;
  for (int tap = 0; tap < 4; ++tap) {
    const int64_t y = inside(top + tap / 2, augmentation.height, augmentation.padding);
    const int64_t x = inside(left + tap % 2, augmentation.width, augmentation.padding);
    const bool black = y < 0 || x < 0;
    taps.pixel[tap] = black ? 0 : y * augmentation.width + x;
    taps.weight[tap] = black ? 0 : (tap / 2 != 0 ? below : 256 - below) * (tap % 2 != 0 ? right : 256 - right);
  }
  return taps;
}

// The pixel's value times kOne.
PYDYN_HOST_DEVICE int32_t value_at(const Augmentation& augmentation, const uint8_t* image, const Taps& taps,
                                   int64_t channel) {
  int32_t value = 0;
  for (int tap = 0; tap < 4; ++tap)
    value += taps.weight[tap] * image[taps.pixel[tap] * augmentation.channels + channel];
  return value;
}

}  // namespace pydyn
