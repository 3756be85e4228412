// What the engine is asked to run: one direction of one layer. Independent of the instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cell.hpp"
#include "few.hpp"

namespace recurra {

// How many threads may run of those asked for: OpenMP's do not survive a fork, and a child that asks for them hangs.
int allowed_threads(int asked);

// How much memory a thread may keep from one call for the next.
std::size_t most_kept_bytes();

enum Source { kInput = 0, kState = 1, kOperand = 2 };

// A matrix product added to a slot: the rows of `gate` in weights[matrix] times the source.
struct Product {
  int slot, matrix, gate, source, index, phase;
};

struct CellPlan {
  const CellEntry* entry = nullptr;
  int states = 0, slots = 0, kept = 0, phases = 0, vectors = 0;
  Few<int, kMaxOperands> operand_phase;
  Few<Product, kMaxProducts> products;
};

// Rows of a sequence: row r of step t lies `row` elements after row r - 1 (in memory's order of rows).
struct Sequence {
  void* data = nullptr;
  std::ptrdiff_t step = 0, row = 0;
  // Whether only rows that count are there, step after step, the longest first.
  bool packed = false;
};

// Units of a layer are held in whole vectors of the widest kind, with a stride that does not map all rows of a tile to
// the same few sets of the first cache.
RECURRA_INLINE std::ptrdiff_t padded_units(std::ptrdiff_t hidden) {
  const std::ptrdiff_t whole = (hidden + 15) / 16 * 16;
  return whole % 128 == 0 ? whole + 16 : whole;
}

// Rows, units and terms are counted in int, with room for the whole vectors and tiles that the last of them is part of.
constexpr std::ptrdiff_t kMostCounted = (std::ptrdiff_t(1) << 31) - 64;

struct Layer {
  const CellPlan* plan = nullptr;
  // With a projection h, the first state, has `projected` units where every other state has `hidden`.
  std::ptrdiff_t steps = 0, batch = 0, input_size = 0, hidden = 0, projected = 0;
  bool reverse = false;
  // Whether weights are rounded to bfloat16 as they are packed; sums and everything else stay as they are.
  bool round_weights = false;
  bool tiles = false;  // whether products with rounded weights run on matrix tiles
  bool bfloat16_weights = false;  // those of all matrices, as they lie in memory
  int threads = 1;
  // With lengths: rows of each step that count, and where the rows, sorted by falling length, lie in memory.
  const std::int64_t* active = nullptr;
  const std::int64_t* order = nullptr;

  Sequence input;
  Few<void*, kMaxMatrices> weights;  // weight_ih (G*H, I), weight_hh (G*H, H or P), the cell's own (H, H)
  void* bias_ih = nullptr;     // (G*H,) or nullptr
  void* bias_hh = nullptr;
  Few<void*, kMaxVectors> vectors;    // (H,)
  Few<void*, kMaxStates> initial;    // (B, H or P)
  Few<void*, kMaxStates> final;      // (B, H or P)
  Few<Sequence, kMaxStates> states;  // of every step; data nullptr where only the last is wanted
  // For the way back, else nullptr: kept values (N, kept, padded) and operands (N, padded), N rows that count.
  void* kept = nullptr;
  Few<void*, kMaxOperands> operands;

  // The projection, (P, H), and for the way back h before it, (N, padded).
  void* weight_hr = nullptr;
  void* unprojected = nullptr;

  // Regularisation. Multiplies what enters the products with weight_hh: (B, H) or nullptr.
  void* mask = nullptr;
  // Zoneout: where a byte is true the old state stays; (T, B, ...) bytes a state, or none and a proportion to mix by.
  double zoneout = 0.0;
  Few<Sequence, kMaxStates> zoneout_masks;
  // With zoneout, for the way back: each new state before old values were put back, (N, padded).
  Few<void*, kMaxStates> candidates;

  // Where a byte, of (T, B), is true a document begins: the state between step t - 1 and step t of that row is not passed
  // on, in neither direction, and what comes next starts from `restart`, one row of each state.
  Sequence resets;
  Few<void*, kMaxStates> restart;

  // The way back only. What was kept, where it is to stay as it is: `kept` is then memory to work in.
  const void* saved = nullptr;
  // Gradients of what was given out, nullptr for none; and where those of what came in go.
  Few<Sequence, kMaxStates> d_states;
  Few<void*, kMaxStates> d_final;
  Sequence d_input;
  Few<void*, kMaxMatrices> d_weights;
  void* d_bias_ih = nullptr;
  void* d_bias_hh = nullptr;
  Few<void*, kMaxVectors> d_vectors;
  Few<void*, kMaxStates> d_initial;
  Few<void*, kMaxStates> d_restart;  // one row each, the sum over all resets
  void* d_weight_hr = nullptr;
  void* d_projected = nullptr;  // of h of each step, (N, padded P): for the way back to work in

  RECURRA_INLINE std::ptrdiff_t width(int state) const { return state == 0 && projected > 0 ? projected : hidden; }
};

}  // namespace recurra
