// Free of torch, so that any nvcc compiles the kernel in seconds. The maths: ../images.h and ../augment.h.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../augment.h"
#include "dtype.h"

namespace pydyn::cuda {

// All pointers are to device memory.
struct ImageGatherCall {
  void* out;
  const uint8_t* images;
  const int64_t* index;
  const int64_t* epoch_on_device;  // or null: `epoch` then
  uint32_t epoch;
  int64_t n_images;
  int64_t n_out;
  int64_t index_stride;
  bool channels_last;
  Augmentation augmentation;  // of images of fewer than 2^31 elements
};

// Enqueues the gather on `stream`. An index out of range stops the kernel with a device-side assert, which the next
// synchronising call reports.
cudaError_t gather_images(const ImageGatherCall& call, Dtype out, cudaStream_t stream);

}  // namespace pydyn::cuda
