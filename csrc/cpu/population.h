// What the population ops have in common on the CPU.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>

namespace pydyn {

// Refuses int64 values outside [0, size).
void check_range(const char* op, const char* name, const at::Tensor& values, int64_t size);

// Calls work(worker, turn) for turns 0 to count - 1 on all threads, whichever is free next. A thread's worker is what
// hire() gives it, and is dismissed with finish(worker), one thread at a time.
template <typename Hire, typename Work, typename Finish>
void take_turns(int64_t count, const Hire& hire, const Work& work, const Finish& finish) {
  std::atomic<int64_t> next{0};
  std::mutex finishing;
  at::parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t begin, int64_t end) {
    auto worker = hire();
    for (; begin < end; ++begin)
      for (int64_t turn = next++; turn < count; turn = next++) work(worker, turn);
    const std::lock_guard<std::mutex> lock(finishing);
    finish(worker);
  });
}

}  // namespace pydyn
