// The engine for one instruction set; compiled once for each.
#include "isa.hpp"

#include <chrono>

#include "backward.hpp"
#include "forward.hpp"
#include "stream.hpp"

#include "cells.inc"

namespace recurra::RECURRA_ISA {

namespace {

const CellEntry* find(const char* fingerprint) {
  for (int i = 0; i < kCellCount; ++i)
    if (std::strcmp(kCells[i].fingerprint, fingerprint) == 0) return &kCells[i];
  return nullptr;
}

template <template <class> class Way> void run(const Layer& layer, bool is_double) {
  const CellEntry& entry = *layer.plan->entry;
  const auto with = [&](int threads) {
    return is_double ? Way<double>(layer, entry.float64).run(threads) : Way<float>(layer, entry.float32).run(threads);
  };
  if (!with(allowed_threads(layer.threads))) with(1);
}

void forward(const Layer& layer, bool is_double) { run<Forward>(layer, is_double); }
void backward(const Layer& layer, bool is_double) { run<Backward>(layer, is_double); }

Stepping* stream(const Layer& layer, bool is_double) {
  const CellEntry& entry = *layer.plan->entry;
  if (is_double) return new Stream<double>(layer, entry.float64);
  return new Stream<float>(layer, entry.float32);
}

#if defined(__x86_64__)
#define RECURRA_HIDE(x) asm volatile("" : "+v"(x))
#else
#define RECURRA_HIDE(x) asm volatile("" : "+w"(x))
#endif

// Multiply-adds on registers alone, in GFLOP/s of one thread: what no kernel can exceed.
double peak() {
  using Clock = std::chrono::steady_clock;
  constexpr int kChains = 12, kTurns = 1000000;
  const Vec<float> a = splat(1.0f), b = splat(1e-9f);
  double best = 0.0;
  for (int attempt = 0; attempt < 5; ++attempt) {
    // Chains by name, for an array would be kept in memory.
    Vec<float> c0 = {}, c1 = {}, c2 = {}, c3 = {}, c4 = {}, c5 = {}, c6 = {}, c7 = {}, c8 = {}, c9 = {}, c10 = {}, c11 = {};
    const auto began = Clock::now();
    for (int turn = 0; turn < kTurns; ++turn) {
      const auto next = [&](Vec<float>& c) __attribute__((always_inline)) {
        c = madd(c, a, b);
        // The compiler must not see that the turns are alike.
        RECURRA_HIDE(c);
      };
      next(c0), next(c1), next(c2), next(c3), next(c4), next(c5);
      next(c6), next(c7), next(c8), next(c9), next(c10), next(c11);
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
    best = max(best, 2.0 * kWidth<float> * kChains * kTurns / seconds / 1e9);
  }
  return best;
}

// Memory that each thread reads again and again, in GB/s of all threads: what no step on weights of that size can exceed.
double reading(std::size_t bytes, int threads) {
  using Clock = std::chrono::steady_clock;
  constexpr std::size_t kAtOnce = 8;
  const std::size_t count = max<std::size_t>(1, bytes / (kAtOnce * kVectorBytes)) * kAtOnce * kWidth<float>;
  const std::size_t turns = max<std::size_t>(2, (std::size_t(1) << 26) / (count * sizeof(float)));
  Workspace workspace;
  const std::size_t at = workspace.count<float>(count * threads);
  workspace.take(true);
  std::memset(workspace.at<float>(at), 0, count * threads * sizeof(float));
  double best = 0.0;
  for (int attempt = 0; attempt < 5; ++attempt) {
    const auto began = Clock::now();
    const bool done = run_team(threads, [&](int thread, Barrier&) {
      const float* from = workspace.at<float>(at) + thread * count;
      Vec<float> sums[kAtOnce] = {};
      for (std::size_t turn = 0; turn < turns; ++turn)
        for (std::size_t i = 0; i < count; i += kAtOnce * kWidth<float>) {
#pragma GCC unroll 8
          for (std::size_t v = 0; v < kAtOnce; ++v) sums[v] = sums[v] + load(from + i + v * kWidth<float>);
        }
      for (Vec<float>& sum : sums) RECURRA_HIDE(sum);
    });
    const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
    if (done) best = max(best, double(turns) * threads * count * sizeof(float) / seconds / 1e9);
  }
  return best;
}

}  // namespace

#define RECURRA_TEXT_OF(name) #name
#define RECURRA_TEXT(name) RECURRA_TEXT_OF(name)

extern const Isa kIsa;
const Isa kIsa{RECURRA_TEXT(RECURRA_ISA), find, forward, backward, stream, peak, reading};

}  // namespace recurra::RECURRA_ISA
