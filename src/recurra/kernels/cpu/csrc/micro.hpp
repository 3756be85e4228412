// The only arithmetic of the matrix products: a tile of R rows by NV vectors, summed over K in one fixed order.
#pragma once

#include "vec.hpp"

namespace recurra::RECURRA_ISA {

// Sums are taken over blocks of this many terms and the blocks are added in order. Every product of every path cuts at
// the same places, so that a result does not depend on the tile that it was computed in.
constexpr int kBlock = 256;

// Where a tile's result goes, and what it is added to.
template <class T> struct Out {
  T* c;
  std::ptrdiff_t row;             // elements from one row to the next
  const std::ptrdiff_t* columns;  // offset of each vector
  const T* source;                // added to the sum; nullptr for nothing
  std::ptrdiff_t source_row;      // 0 for one row, such as a bias, under all
  const char* ahead;              // what will be read soon, fetched into the second cache by the way
  int ahead_step;                 // bytes for each term of the sums
};

RECURRA_INLINE void fetch(const char* p) { __builtin_prefetch(p, 0, 2); }

// What `finish` will touch, so that it is there when the sums are.
template <class T, int R, int NV> RECURRA_INLINE void announce(const Out<T>& out) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) __builtin_prefetch(out.c + r * out.row + out.columns[v], 1, 3);
}

template <class T, int R, int NV> RECURRA_INLINE void finish(Vec<T> (&sum)[R][NV], const Out<T>& out) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      const std::ptrdiff_t column = out.columns[v];
      const Vec<T> before = out.source ? load(out.source + r * out.source_row + column) : Vec<T>{};
      store(out.c + r * out.row + column, out.source ? before + sum[r][v] : sum[r][v]);
    }
  }
}

// rows[r][k] times panel[k][v].
template <class T, int R, int NV>
__attribute__((noinline)) void micro(int k, const T* const* rows, const T* panel, const Out<T>& out) {
  constexpr int W = kWidth<T>;
  announce<T, R, NV>(out);
  Vec<T> sum[R][NV] = {};
  const T* a[R];
  for (int r = 0; r < R; ++r) a[r] = rows[r];
  [[maybe_unused]] const char* ahead = out.ahead;
  [[maybe_unused]] const std::ptrdiff_t ahead_step = out.ahead_step;
  for (int i = 0; i < k; ++i) {
    // With few rows the loads themselves are what is waited for, and one more only delays them.
    if constexpr (R > 2) {
      fetch(ahead);
      ahead += ahead_step;
    }
    Vec<T> b[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) b[v] = load(panel + v * W);
    panel += NV * W;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<T> x = splat(a[r][i]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) sum[r][v] = madd(x, b[v], sum[r][v]);
    }
  }
  finish<T, R, NV>(sum, out);
}

// packed[k][r] times panel[k][v].
template <class T, int R, int NV>
__attribute__((noinline)) void micro_packed(int k, const T* packed, const T* panel, const Out<T>& out) {
  constexpr int W = kWidth<T>;
  announce<T, R, NV>(out);
  Vec<T> sum[R][NV] = {};
  for (int i = 0; i < k; ++i) {
    Vec<T> b[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) b[v] = load(panel + v * W);
    panel += NV * W;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<T> x = splat(packed[r]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) sum[r][v] = madd(x, b[v], sum[r][v]);
    }
    packed += R;
  }
  finish<T, R, NV>(sum, out);
}

template <class T> using Micro = void (*)(int, const T* const*, const T*, const Out<T>&);
template <class T> using MicroPacked = void (*)(int, const T*, const T*, const Out<T>&);

template <class T, int R> constexpr Micro<T> micro_of(int vectors) {
  if constexpr (kTileVectors == 4) {
    constexpr Micro<T> table[] = {micro<T, R, 1>, micro<T, R, 2>, micro<T, R, 3>, micro<T, R, 4>};
    return table[vectors - 1];
  } else {
    constexpr Micro<T> table[] = {micro<T, R, 1>, micro<T, R, 2>};
    return table[vectors - 1];
  }
}

template <class T> inline Micro<T> micro_for(int rows, int vectors) {
  switch (rows) {
    case 1: return micro_of<T, 1>(vectors);
    case 2: return micro_of<T, 2>(vectors);
    case 3: return micro_of<T, 3>(vectors);
    case 4: return micro_of<T, 4>(vectors);
    case 5: return micro_of<T, 5>(vectors);
    default: return micro_of<T, 6>(vectors);
  }
}

template <class T, int R> constexpr MicroPacked<T> micro_packed_of(int vectors) {
  if constexpr (kTileVectors == 4) {
    constexpr MicroPacked<T> table[] = {micro_packed<T, R, 1>, micro_packed<T, R, 2>, micro_packed<T, R, 3>,
                                        micro_packed<T, R, 4>};
    return table[vectors - 1];
  } else {
    constexpr MicroPacked<T> table[] = {micro_packed<T, R, 1>, micro_packed<T, R, 2>};
    return table[vectors - 1];
  }
}

template <class T> inline MicroPacked<T> micro_packed_for(int rows, int vectors) {
  switch (rows) {
    case 1: return micro_packed_of<T, 1>(vectors);
    case 2: return micro_packed_of<T, 2>(vectors);
    case 3: return micro_packed_of<T, 3>(vectors);
    case 4: return micro_packed_of<T, 4>(vectors);
    case 5: return micro_packed_of<T, 5>(vectors);
    default: return micro_packed_of<T, 6>(vectors);
  }
}

}  // namespace recurra::RECURRA_ISA
