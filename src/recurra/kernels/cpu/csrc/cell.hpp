// What generated code and hand-written code agree on.
#pragma once

namespace recurra {

constexpr int kMaxStates = 8, kMaxSlots = 24, kMaxVectors = 8, kMaxOperands = 4, kMaxPhases = 4;
constexpr int kMaxMatrices = 64, kMaxProducts = 96;

// A cell's arithmetic for one type of number: a function for each phase of the step, in order, and for the way back.
struct CellFunctions {
  const void* forward[kMaxPhases];
  const void* training[kMaxPhases];
  const void* backward[kMaxPhases];
};

struct CellEntry {
  const char* fingerprint;  // of the generated text
  CellFunctions float32, float64;
};

}  // namespace recurra
