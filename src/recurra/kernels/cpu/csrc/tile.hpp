// What a cell's generated arithmetic sees: a tile of rows and units, read and written one vector of units at a time.
#pragma once

#include "cell.hpp"
#include "functions.hpp"

namespace recurra {

namespace RECURRA_ISA {

// One tile. Rows lie in memory of the caller, each at its own address; padded buffers have a row stride instead.
template <class T> struct Tile {
  int rows;    // of the batch
  int blocks;  // vectors of units
  int tail;    // units of the last block that exist
  std::ptrdiff_t unit;  // first unit
  // Slot s of row r at slots + s * slot + r * slot_row, padded: pre-activations, then what is kept of them for the way
  // back, then their gradients.
  T* slots;
  std::ptrdiff_t slot, slot_row;
  const T* const* old_state[kMaxStates];  // row addresses, at unit 0
  T* const* new_state[kMaxStates];
  const T* vectors[kMaxVectors];  // padded
  T* operands[kMaxOperands];      // padded, row stride padded_row
  std::ptrdiff_t padded_row;
  // Backward only.
  T* state_gradients[kMaxStates];                  // padded, row stride padded_row: of the new state in, of the old state out
  const T* const* output_gradients[kMaxStates];    // row addresses, or nullptr
  const T* operand_gradients[kMaxOperands];        // padded, row stride padded_row
  T* vector_gradients[kMaxVectors];                // padded, one row: added to
};

template <class T> using Pointwise = void (*)(const Tile<T>&);

// The reads and writes of one vector of units in one row.
template <class T, bool kTail> struct Lanes {
  const Tile<T>& tile;
  int row, block;
  std::ptrdiff_t unit;
  Vec<T> (&sums)[kMaxVectors];

  RECURRA_INLINE Lanes(const Tile<T>& tile, int row, int block, Vec<T> (&sums)[kMaxVectors])
      : tile(tile), row(row), block(block), unit(tile.unit + std::ptrdiff_t(block) * kWidth<T>), sums(sums) {}

  RECURRA_INLINE Vec<T> read(const T* p) const { return kTail ? load_first(p, tile.tail) : load(p); }
  RECURRA_INLINE void write(T* p, Vec<T> v) const {
    if constexpr (kTail)
      store_first(p, v, tile.tail);
    else
      store(p, v);
  }
  RECURRA_INLINE T* at(T* base, int s) const {
    return base + s * tile.slot + row * tile.slot_row + std::ptrdiff_t(block) * kWidth<T>;
  }
  RECURRA_INLINE std::ptrdiff_t padded() const { return row * tile.padded_row + unit; }

  RECURRA_INLINE Vec<T> slot(int s) const { return load(at(tile.slots, s)); }
  RECURRA_INLINE Vec<T> saved(int s) const { return load(at(tile.slots, s)); }
  RECURRA_INLINE void save(int s, Vec<T> v) const { store(at(tile.slots, s), v); }
  RECURRA_INLINE Vec<T> old_state(int s) const { return read(tile.old_state[s][row] + unit); }
  RECURRA_INLINE Vec<T> new_state(int s) const { return read(tile.new_state[s][row] + unit); }
  RECURRA_INLINE void set_state(int s, Vec<T> v) const { write(tile.new_state[s][row] + unit, v); }
  RECURRA_INLINE Vec<T> vector(int v) const { return load(tile.vectors[v] + unit); }
  RECURRA_INLINE Vec<T> operand(int q) const { return load(tile.operands[q] + padded()); }
  RECURRA_INLINE void set_operand(int q, Vec<T> v) const { store(tile.operands[q] + padded(), v); }

  RECURRA_INLINE Vec<T> d_new(int s) const {
    const Vec<T> carried = load(tile.state_gradients[s] + padded());
    return tile.output_gradients[s] ? carried + read(tile.output_gradients[s][row] + unit) : carried;
  }
  RECURRA_INLINE Vec<T> d_operand(int q) const { return load(tile.operand_gradients[q] + padded()); }
  // Lanes beyond the last unit stay zero, for products run over whole vectors.
  RECURRA_INLINE Vec<T> real(Vec<T> v) const {
    if constexpr (kTail) {
      Vec<T> kept = {};
      std::memcpy(&kept, &v, tile.tail * sizeof(T));
      return kept;
    }
    return v;
  }
  RECURRA_INLINE void set_d_slot(int s, Vec<T> v) const { store(at(tile.slots, s), real(v)); }
  RECURRA_INLINE void set_d_old(int s, Vec<T> v) const { store(tile.state_gradients[s] + padded(), real(v)); }
  RECURRA_INLINE void add_d_vector(int v, Vec<T> d) const { sums[v] = sums[v] + real(d); }
};

// Runs one generated function over a tile. `Body::kVectors` counts the vectors that it sends gradients to.
template <class Body, class T> void over(const Tile<T>& tile) {
  for (int block = 0; block < tile.blocks; ++block) {
    Vec<T> sums[kMaxVectors] = {};
    if (block == tile.blocks - 1 && tile.tail < kWidth<T>) {
      for (int row = 0; row < tile.rows; ++row) Body::run(Lanes<T, true>(tile, row, block, sums));
    } else {
      for (int row = 0; row < tile.rows; ++row) Body::run(Lanes<T, false>(tile, row, block, sums));
    }
    for (int v = 0; v < Body::kVectors; ++v) {
      T* total = tile.vector_gradients[v] + tile.unit + std::ptrdiff_t(block) * kWidth<T>;
      store(total, load(total) + sums[v]);
    }
  }
}

}  // namespace RECURRA_ISA

}  // namespace recurra
