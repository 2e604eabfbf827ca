// What the population ops have in common on the CPU.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace pydyn {

// Refuses int64 values outside [0, size).
void check_range(const char* op, const char* name, const at::Tensor& values, int64_t size);

// Calls work(0) to work(count - 1) on all threads, whichever is free next.
template <typename Work>
void take_turns(int64_t count, const Work& work) {
  std::atomic<int64_t> next{0};
  at::parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t begin, int64_t end) {
    for (; begin < end; ++begin)
      for (int64_t turn = next++; turn < count; turn = next++) work(turn);
  });
}

}  // namespace pydyn
