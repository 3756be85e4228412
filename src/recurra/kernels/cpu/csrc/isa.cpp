// The engine for one instruction set; compiled once for each.
#include "isa.hpp"

#include "backward.hpp"
#include "forward.hpp"

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
  if (!with(layer.threads)) with(1);
}

void forward(const Layer& layer, bool is_double) { run<Forward>(layer, is_double); }
void backward(const Layer& layer, bool is_double) { run<Backward>(layer, is_double); }

}  // namespace

#define RECURRA_TEXT_OF(name) #name
#define RECURRA_TEXT(name) RECURRA_TEXT_OF(name)

extern const Isa kIsa;
const Isa kIsa{RECURRA_TEXT(RECURRA_ISA), find, forward, backward};

}  // namespace recurra::RECURRA_ISA
