// What each instruction set offers, and the one that this machine runs.
#pragma once

#include "layer.hpp"

namespace recurra {

struct Isa {
  const char* name;
  const CellEntry* (*find)(const char* fingerprint);
  void (*forward)(const Layer&, bool is_double);
  void (*backward)(const Layer&, bool is_double);
};

}  // namespace recurra
