// Floating-point types of the kernels, and conversions that round to the nearest, ties to even, as the CPU's do.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "dtype.h"

namespace pydyn::cuda {

// What numbers of a type are computed and summed in.
template <typename T>
using Sum = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Calls a function with some number of the type named.
template <typename Function>
auto with_number_of(Dtype dtype, const Function& function) {
  switch (dtype) {
    case Dtype::kHalf:
      return function(__half());
    case Dtype::kBFloat16:
      return function(__nv_bfloat16());
    case Dtype::kFloat:
      return function(float());
    default:
      return function(double());
  }
}

__device__ __forceinline__ float to_real(__half value) { return __half2float(value); }
__device__ __forceinline__ float to_real(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float to_real(float value) { return value; }
__device__ __forceinline__ double to_real(double value) { return value; }

__device__ __forceinline__ void store(float value, __half* to) { *to = __float2half_rn(value); }
__device__ __forceinline__ void store(float value, __nv_bfloat16* to) { *to = __float2bfloat16_rn(value); }
__device__ __forceinline__ void store(float value, float* to) { *to = value; }
__device__ __forceinline__ void store(double value, double* to) { *to = value; }

// Elements that move in one access of up to 16 bytes.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T element[kCount];
};

}  // namespace pydyn::cuda
