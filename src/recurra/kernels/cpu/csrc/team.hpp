// Threads that work on one layer together: OpenMP's, which torch has started already, and a barrier between them.
#pragma once

#if defined(_OPENMP)
#include <omp.h>
#endif

#include <atomic>
#include <thread>
#include <vector>

#include "vec.hpp"

namespace recurra::RECURRA_ISA {

class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}

  void wait() {
    if (threads_ == 1) return;
    const unsigned generation = generation_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      generation_.store(generation + 1, std::memory_order_release);
      return;
    }
    // A step takes microseconds, so the others are near; but a core may be shared with another process.
    for (int spins = 0; generation_.load(std::memory_order_acquire) == generation; ++spins) {
      if (spins < 20000)
        pause();
      else
        std::this_thread::yield();
    }
  }

 private:
  static void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  const int threads_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<unsigned> generation_{0};
};

// Runs work(thread, barrier) on every thread. False, with nothing run, if OpenMP gives fewer threads than asked for.
template <class Work> bool run_team(int threads, const Work& work) {
  Barrier barrier(threads);
  if (threads == 1) {
    work(0, barrier);
    return true;
  }
  bool done = true;
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads)
  {
    if (omp_get_num_threads() == threads) {
      work(omp_get_thread_num(), barrier);
    } else {
#pragma omp single
      done = false;
    }
  }
#else
  // For tools that do not see how OpenMP's own threads wait for one another, such as the thread sanitizer.
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back([&, thread] { work(thread, barrier); });
  work(0, barrier);
  for (std::thread& other : others) other.join();
#endif
  return done;
}

}  // namespace recurra::RECURRA_ISA
