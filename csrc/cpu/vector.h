// Sixteen numbers computed side by side, in the compiler's own vector types:
// any instruction set does it, the widest (see clones.h) in one instruction. Written out because compilers vectorise
// only some of such loops by themselves.

#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace pydyn {

#define PYDYN_INLINE inline __attribute__((always_inline))

constexpr int64_t kLanes = 16;

template <typename T, int64_t kCount = kLanes>
struct VectorOf {
  typedef T Type __attribute__((vector_size(kCount * sizeof(T))));
};
template <typename T, int64_t kCount = kLanes>
using Vector = typename VectorOf<T, kCount>::Type;

template <typename Real>
using Reals = Vector<Real>;
template <typename Real>
using Integers = Vector<std::conditional_t<sizeof(Real) == 8, int64_t, int32_t>>;
using Bytes = Vector<uint8_t>;
using Shorts = Vector<uint16_t>;
using Words = Vector<uint32_t>;

template <typename To, typename T>
PYDYN_INLINE To read(const T* from) {
  To vector;
  std::memcpy(&vector, from, sizeof(vector));
  return vector;
}

template <typename From, typename T>
PYDYN_INLINE void write(const From& vector, T* to) {
  std::memcpy(to, &vector, sizeof(vector));
}

template <typename To, typename From>
PYDYN_INLINE To bits_as(const From& vector) {
  static_assert(sizeof(To) == sizeof(From));
  return read<To>(&vector);
}

// Lane i gets lane mask[i].
template <typename Numbers, typename Mask>
PYDYN_INLINE Numbers shuffle(const Numbers& from, const Mask& mask) {
#if defined(__GNUC__) && !defined(__clang__)
  return __builtin_shuffle(from, mask);
#else
  Numbers to;
  for (size_t lane = 0; lane < sizeof(mask) / sizeof(mask[0]); ++lane) to[lane] = from[mask[lane]];
  return to;
#endif
}

// Lanes of two vectors one behind the other.
template <int k0, int k1, int k2, int k3>
PYDYN_INLINE Vector<float, 4> pick(const Vector<float, 4>& first, const Vector<float, 4>& second) {
#if defined(__GNUC__) && !defined(__clang__)
  return __builtin_shuffle(first, second, Vector<int32_t, 4>{k0, k1, k2, k3});
#else
  return __builtin_shufflevector(first, second, k0, k1, k2, k3);
#endif
}

// Four times four numbers, rows and columns swapped: from + i from_stride + j goes to to + j to_stride + i.
PYDYN_INLINE void transpose(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  using Four = Vector<float, 4>;
  const Four a = read<Four>(from), b = read<Four>(from + from_stride);
  const Four c = read<Four>(from + 2 * from_stride), d = read<Four>(from + 3 * from_stride);
  const Four ab_low = pick<0, 4, 1, 5>(a, b), ab_high = pick<2, 6, 3, 7>(a, b);
  const Four cd_low = pick<0, 4, 1, 5>(c, d), cd_high = pick<2, 6, 3, 7>(c, d);
  write(pick<0, 1, 4, 5>(ab_low, cd_low), to);
  write(pick<2, 3, 6, 7>(ab_low, cd_low), to + to_stride);
  write(pick<0, 1, 4, 5>(ab_high, cd_high), to + 2 * to_stride);
  write(pick<2, 3, 6, 7>(ab_high, cd_high), to + 3 * to_stride);
}

// Sixteen rows of sixteen bytes, rows and columns swapped.
PYDYN_INLINE void transpose(Bytes (&rows)[kLanes]) {
#pragma GCC unroll 4
  for (int64_t round = 0; round < 4; ++round) {
    Bytes next[kLanes];
#pragma GCC unroll 8
    for (int64_t i = 0; i < kLanes / 2; ++i) {
      const Bytes &first = rows[i], &second = rows[i + kLanes / 2];
#if defined(__GNUC__) && !defined(__clang__)
      next[2 * i] = __builtin_shuffle(first, second, Bytes{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23});
      next[2 * i + 1] =
          __builtin_shuffle(first, second, Bytes{8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31});
#else
      next[2 * i] = __builtin_shufflevector(first, second, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      next[2 * i + 1] =
          __builtin_shufflevector(first, second, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#endif
    }
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
}

// Bytes as integers.
template <int64_t kCount = kLanes>
PYDYN_INLINE Vector<int32_t, kCount> widen(const uint8_t* from) {
  if constexpr (kCount < 8) {
    return __builtin_convertvector(read<Vector<uint8_t, kCount>>(from), Vector<int32_t, kCount>);
  } else if constexpr (kCount == 8) {
    // Each lane takes a byte of a word that all of them hold: compilers know no such direct way themselves.
    uint64_t word;
    std::memcpy(&word, from, sizeof(word));
    const auto words = bits_as<Vector<uint8_t, 32>>(word - Vector<uint64_t, 4>{});
    constexpr Vector<uint8_t, 32> kByte = {0,  0,  0,  0,  1,  1,  1,  1,  2,  2,  2,  2,  3,  3,  3,  3,
                                           20, 20, 20, 20, 21, 21, 21, 21, 22, 22, 22, 22, 23, 23, 23, 23};
    return bits_as<Vector<int32_t, 8>>(shuffle(words, kByte)) & 0xFF;
  } else {
    const auto low = widen<8>(from), high = widen<8>(from + 8);
#if __has_builtin(__builtin_shufflevector)
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
    Integers<float> both;
    std::memcpy(&both, &low, sizeof(low));
    std::memcpy(reinterpret_cast<char*>(&both) + sizeof(low), &high, sizeof(high));
    return both;
#endif
  }
}

template <int64_t kCount = kLanes, typename Real>
PYDYN_INLINE Vector<Real, kCount> all(Real value) {
  // As an integer: compilers bring a float from memory to each lane by an instruction of its own.
  using Integer = std::conditional_t<sizeof(Real) == 8, int64_t, int32_t>;
  return bits_as<Vector<Real, kCount>>(bits_as<Integer>(value) - Vector<Integer, kCount>{});
}

template <typename Real>
PYDYN_INLINE Integers<Real> all_integers(int64_t value) {
  // By way of memory: compilers fill such a vector lane by lane.
  std::remove_reference_t<decltype(std::declval<Integers<Real>&>()[0])> lanes[kLanes];
  for (auto& lane : lanes) lane = static_cast<std::remove_reference_t<decltype(lane)>>(value);
  return read<Integers<Real>>(lanes);
}

// Rounding to half precision, to the nearest, ties to even.
PYDYN_INLINE void store(double value, double* to) { *to = value; }
PYDYN_INLINE void store(float value, float* to) { *to = value; }
PYDYN_INLINE void store(float value, at::Half* to) { to->x = c10::detail::fp16_ieee_from_fp32_value(value); }
PYDYN_INLINE void store(float value, at::BFloat16* to) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  to->x = static_cast<uint16_t>(value != value ? 0x7FC0 : rounded);
}

PYDYN_INLINE void store(const Reals<double>& values, double* to) { write(values, to); }
PYDYN_INLINE void store(const Reals<float>& values, float* to) { write(values, to); }
PYDYN_INLINE void store(const Reals<float>& values, at::Half* to) {
  const Words bits = bits_as<Words>(values);
  const Words magnitude = bits & 0x7FFFFFFF;
  // The sum with a power of two 13 binary places above leaves of the value what half precision keeps, rounded; at least
  // 2^-1, which stands for the step of subnormal numbers. Before it, what is too large becomes infinite.
  const Reals<float> scaled = (bits_as<Reals<float>>(magnitude) * 0x1p112f) * 0x1p-110f;
  const Words exponent = magnitude & 0x7F800000;
  const Words least = Words{} + 0x38800000;
  const Words power = (exponent < least ? least : exponent) + 0x07800000;
  const Words sum = bits_as<Words>(bits_as<Reals<float>>(power) + scaled);
  const Words number = ((sum >> 13) & 0x7C00) + (sum & 0x0FFF);
  const Words kept = magnitude > 0x7F800000 ? Words{} + 0x7E00 : number;
  write(__builtin_convertvector(kept | ((bits >> 16) & 0x8000), Shorts), to);
}
PYDYN_INLINE void store(const Reals<float>& values, at::BFloat16* to) {
  const Words bits = bits_as<Words>(values);
  const Words rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const Words kept = values == values ? rounded : Words{} + 0x7FC0;
  write(__builtin_convertvector(kept, Shorts), to);
}

// Any dtype, computed in float or double.
PYDYN_INLINE Reals<double> fetch(const double* from) { return read<Reals<double>>(from); }
PYDYN_INLINE Reals<float> fetch(const float* from) { return read<Reals<float>>(from); }
PYDYN_INLINE Reals<float> fetch(const at::BFloat16* from) {
  const Words bits = __builtin_convertvector(read<Shorts>(from), Words) << 16;
  return bits_as<Reals<float>>(bits);
}
PYDYN_INLINE Reals<float> fetch(const at::Half* from) {
  const Words bits = __builtin_convertvector(read<Shorts>(from), Words);
  const Words magnitude = bits & 0x7FFF;
  // Normal numbers, infinity and NaN: exponent and mantissa in their places, then the exponent set right by a product.
  const Reals<float> normal = bits_as<Reals<float>>((magnitude << 13) + 0x70000000) * 0x1p-112f;
  // Subnormal ones: as the mantissa of 1/2, less 1/2.
  const Reals<float> subnormal = bits_as<Reals<float>>(magnitude | 0x3F000000) - 0.5f;
  const Words number = magnitude < 0x0400 ? bits_as<Words>(subnormal) : bits_as<Words>(normal);
  return bits_as<Reals<float>>(number | ((bits & 0x8000) << 16));
}

// exp(x) for x <= 0, NaN for NaN: Cody and Waite's reduction and Cephes's polynomial, good to about 1 ulp; 0 where
// exp(x) is no normal number.
PYDYN_INLINE Reals<float> exp_of_negative(const Reals<float>& x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, in the low bits
  const Reals<float> shifted = x * 1.44269504088896341f + kMagic;
  const Reals<float> n = shifted - kMagic;
  const Reals<float> r = x - n * 0.693359375f - n * -2.12194440e-4f;
  Reals<float> p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + (r + 1.0f);
  const Words power_of_two = bits_as<Words>(shifted) << 23;
  const Reals<float> scaled = p * bits_as<Reals<float>>(power_of_two + 0x3F800000u);
  const Reals<float> zero{};
  return x < -87.3f ? zero : scaled;
}
PYDYN_INLINE Reals<double> exp_of_negative(Reals<double> x) {
  for (int64_t lane = 0; lane < kLanes; ++lane) x[lane] = std::exp(x[lane]);
  return x;
}

// log(1 + x) for x >= 0, NaN for NaN: Cephes's logf of the rounded sum, and what the rounding lost.
PYDYN_INLINE Reals<float> log_of_one_plus(const Reals<float>& x) {
  const Reals<float> sum = x + 1.0f;
  const Integers<float> bits = bits_as<Integers<float>>(sum);
  const Integers<float> exponent = (bits - 0x3F3504F3) >> 23;
  const Integers<float> mantissa = bits - (exponent << 23);
  const Reals<float> f = bits_as<Reals<float>>(mantissa) - 1.0f;
  const Reals<float> e = __builtin_convertvector(exponent, Reals<float>);
  Reals<float> p = f * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const Reals<float> square = f * f;
  p = p * f * square - 2.12194440e-4f * e - 0.5f * square;
  return f + p + 0.693359375f * e + (x - (sum - 1.0f)) / sum;
}
PYDYN_INLINE Reals<double> log_of_one_plus(Reals<double> x) {
  for (int64_t lane = 0; lane < kLanes; ++lane) x[lane] = std::log1p(x[lane]);
  return x;
}

}  // namespace pydyn
