// What each instruction set offers, and the one that this machine runs.
#pragma once

#include "layer.hpp"

namespace recurra {

// One layer that takes a step at a time, with packed weights and a state of its own.
class Stepping {
 public:
  // Not inline, so that no instruction set has one of its own.
  virtual ~Stepping();
  // Input (B, I) to output (B, H).
  virtual void step(const void* input, void* output) = 0;
  // The present value of a state, (B, H).
  virtual void* state(int s) = 0;
};

struct Isa {
  const char* name;
  const CellEntry* (*find)(const char* fingerprint);
  void (*forward)(const Layer&, bool is_double);
  void (*backward)(const Layer&, bool is_double);
  // The layer's weights are read now; its states are taken from `initial`.
  // The caller deletes what it gets.
  Stepping* (*stream)(const Layer&, bool is_double);
  double (*peak)();
  double (*reading)(std::size_t bytes, int threads);
};

}  // namespace recurra
