// Threads that work on one layer together: OpenMP's, which torch has started already, and a barrier between them.
#pragma once

#include <atomic>
#include <exception>
#include <thread>

#include "list.hpp"
#include "openmp.hpp"

namespace recurra::RECURRA_ISA {

// Thrown by a barrier at which not all will meet any more.
struct Abandoned {};

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
      if (abandoned_.load(std::memory_order_relaxed)) throw Abandoned();
      if (spins < 20000)
        pause();
      else
        std::this_thread::yield();
    }
  }

  // For a thread that will not come again: those that wait for it, or ever will, go their own ways.
  void abandon() { abandoned_.store(true, std::memory_order_relaxed); }

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
  std::atomic<bool> abandoned_{false};
};

// What threads have thrown, of which the first is kept. No exception may leave a parallel region.
class Failure {
 public:
  explicit Failure(Barrier& barrier) : barrier_(barrier) {}

  template <class Work> void guard(const Work& work) {
    try {
      work();
    } catch (const Abandoned&) {
    } catch (...) {
      note();
    }
  }
  // When all threads have ended.
  void rethrow() {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  // To be called while an exception is handled.
  void note() {
    if (!noted_.exchange(true, std::memory_order_relaxed)) first_ = std::current_exception();
    barrier_.abandon();
  }

  Barrier& barrier_;
  std::atomic<bool> noted_{false};
  std::exception_ptr first_;
};

// Runs work(thread, barrier) on every thread. False, with nothing run, if OpenMP gives fewer threads than asked for, or
// if there is no OpenMP. What a thread throws is thrown here, after the others have given up at their next barrier.
template <class Work> bool run_team(int threads, const Work& work) {
  Barrier barrier(threads);
  if (threads == 1) {
    work(0, barrier);
    return true;
  }
  Failure failure(barrier);
#if !defined(RECURRA_STANDARD_THREADS)
  if (openmp.parallel == nullptr) return false;
  bool done = false;
  auto member = [&] {
    const int thread = openmp.thread();
    const bool complete = openmp.team_size() == threads;
    if (thread == 0) done = complete;
    if (complete) failure.guard([&] { work(thread, barrier); });
  };
  openmp.parallel([](void* data) { (*static_cast<decltype(member)*>(data))(); }, &member, threads, 0);
  failure.rethrow();
  return done;
#else
  // For tools that do not see how OpenMP's own threads wait for one another, such as the thread sanitizer.
  List<std::thread> others;
  failure.guard([&] {
    others.reserve(threads - 1);
    for (int thread = 1; thread < threads; ++thread)
      others.push_back(std::thread([&, thread] { failure.guard([&] { work(thread, barrier); }); }));
    work(0, barrier);
  });
  for (std::thread& other : others) other.join();
  failure.rethrow();
  return true;
#endif
}

}  // namespace recurra::RECURRA_ISA
