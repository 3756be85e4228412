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

// One term of all sums.
template <class T, int R, int NV>
RECURRA_INLINE void add_term(Vec<T> (&sum)[R][NV], const T* const (&a)[R], int i, const Vec<T> (&b)[NV]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const Vec<T> x = splat(a[r][i]);
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) sum[r][v] = madd(x, b[v], sum[r][v]);
  }
}

// rows[r][k] times a narrow panel, of which panel[k / 2][v] holds the terms k and k + 1 in the lower and upper halves of
// its lanes, in bfloat16, which is the upper half of a float. The sums are those of `micro` on the same numbers.
template <class T, int R, int NV>
__attribute__((noinline)) void micro_narrow(int k, const T* const* rows, const T* panel, const Out<T>& out) {
  constexpr int W = kWidth<T>;
  announce<T, R, NV>(out);
  Vec<T> sum[R][NV] = {};
  const T* a[R];
  for (int r = 0; r < R; ++r) a[r] = rows[r];
  const Bits<T> upper = Bits<T>{} + static_cast<int>(0xffff0000);
  Vec<T> b[NV];
  for (int i = 0; i < k; i += 2) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) b[v] = (Vec<T>)((Bits<T>)load(panel + v * W) << 16);
    add_term<T, R, NV>(sum, a, i, b);
    if (i + 1 == k) break;
    // Memory that may have changed is read again, so that the pairs take no registers meanwhile.
    asm volatile("" ::: "memory");
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) b[v] = (Vec<T>)((Bits<T>)load(panel + v * W) & upper);
    add_term<T, R, NV>(sum, a, i + 1, b);
    panel += NV * W;
  }
  finish<T, R, NV>(sum, out);
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
    add_term<T, R, NV>(sum, a, i, b);
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

// The kernels of a kind for tiles of up to kTileRows rows by kTileVectors vectors.
#define RECURRA_ROW(kernel, R) \
  { kernel<T, R, 1>, kernel<T, R, 2>, kernel<T, R, kTileVectors - 1>, kernel<T, R, kTileVectors> }
#define RECURRA_KERNELS(kernel)                                                                              \
  {                                                                                                          \
    RECURRA_ROW(kernel, 1), RECURRA_ROW(kernel, 2), RECURRA_ROW(kernel, 3), RECURRA_ROW(kernel, 4),          \
        RECURRA_ROW(kernel, 5), RECURRA_ROW(kernel, 6)                                                       \
  }
static_assert(kTileRows == 6 && (kTileVectors == 2 || kTileVectors == 4));

template <class T> inline Micro<T> micro_for(int rows, int vectors) {
  static constexpr Micro<T> table[kTileRows][4] = RECURRA_KERNELS(micro);
  return table[rows - 1][vectors - 1];
}

template <class T> inline Micro<T> micro_narrow_for(int rows, int vectors) {
  static constexpr Micro<T> table[kTileRows][4] = RECURRA_KERNELS(micro_narrow);
  return table[rows - 1][vectors - 1];
}

template <class T> inline MicroPacked<T> micro_packed_for(int rows, int vectors) {
  static constexpr MicroPacked<T> table[kTileRows][4] = RECURRA_KERNELS(micro_packed);
  return table[rows - 1][vectors - 1];
}

#undef RECURRA_KERNELS
#undef RECURRA_ROW

}  // namespace recurra::RECURRA_ISA
