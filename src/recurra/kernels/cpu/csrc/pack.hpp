// Weights in the order in which the micro-kernel reads them: strips of a few vectors of columns, term after term.
#pragma once

#include <utility>

#include "micro.hpp"
#include "sizes.hpp"

namespace recurra::RECURRA_ISA {

// The first n of some numbers in bfloat16; the other lanes are zero.
template <class T> RECURRA_INLINE Vec<T> widened([[maybe_unused]] const void* from, [[maybe_unused]] int n) {
  Vec<T> wide = {};
  if constexpr (sizeof(T) == 4) {
    typedef std::uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));
    typedef std::uint32_t Unsigned __attribute__((vector_size(kVectorBytes)));
    Halves halves = {};
    std::memcpy(&halves, from, n * sizeof(std::uint16_t));
    wide = (Vec<T>)(__builtin_convertvector(halves, Unsigned) << 16);
  }
  return wide;
}

// One vector of columns to be packed.
template <class T> struct Column {
  const void* weights;    // its first element
  int width;              // lanes that exist
  std::ptrdiff_t offset;  // in a row of the result
  bool bfloat16 = false;  // what the elements are, else T

  const void* at(std::ptrdiff_t element) const {
    return static_cast<const char*>(weights) + element * std::ptrdiff_t(bfloat16 ? 2 : sizeof(T));
  }
  // The first n elements from one on.
  RECURRA_INLINE Vec<T> get(std::ptrdiff_t element, int n) const {
    if (bfloat16) return widened<T>(at(element), n);
    const T* from = static_cast<const T*>(at(element));
    return n == kWidth<T> ? load(from) : load_first(from, n);
  }
};

// How the weights of a panel are held: as they are, rounded to bfloat16, rounded and two terms to a lane, or so and with
// zeros to the end of the last matrix tile. The sums of the second and the third are the same; the third reads half as
// much memory and computes more.
enum class Width { kWhole, kRounded, kNarrow, kTiled };

// Elements of memory that so many terms of one lane take.
inline std::ptrdiff_t depth(Width width, std::ptrdiff_t terms) {
  if (width == Width::kTiled) return (terms + 31) / 32 * 16;
  return width == Width::kNarrow ? (terms + 1) / 2 : terms;
}

// Where a term lies, of which every one that shares a lane with another is even.
inline std::ptrdiff_t place(Width width, std::ptrdiff_t term) {
  return width == Width::kNarrow || width == Width::kTiled ? term / 2 : term;
}

// A strip of up to kTileVectors columns of vectors, for `terms` terms of the sums.
template <class T> struct Strip {
  T* panel;
  int vectors;
  std::ptrdiff_t columns[kTileVectors];  // offset of each vector in a row of the result
  // Of a strip that is used once: what to pack just before, block after block, into the one block at `panel`.
  const Column<T>* unpacked = nullptr;
  Width width = Width::kWhole;
};

// Lanes of x and y that change places when a square of side `kSide` is transposed.
#if defined(__clang__)
template <class T, int kSide, int... i> RECURRA_INLINE void exchange(Vec<T>& x, Vec<T>& y, std::integer_sequence<int, i...>) {
  constexpr int W = kWidth<T>;
  const Vec<T> first = __builtin_shufflevector(x, y, ((i & kSide) ? W + i - kSide : i)...);
  y = __builtin_shufflevector(x, y, ((i & kSide) ? W + i : i + kSide)...);
  x = first;
}
template <class T, int kSide> RECURRA_INLINE void exchange(Vec<T>& x, Vec<T>& y) {
  exchange<T, kSide>(x, y, std::make_integer_sequence<int, kWidth<T>>());
}
#else
template <class T, int kSide> RECURRA_INLINE void exchange(Vec<T>& x, Vec<T>& y) {
  constexpr int W = kWidth<T>;
  Bits<T> low, high;
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    low[i] = (i & kSide) ? W + i - kSide : i;
    high[i] = (i & kSide) ? W + i : i + kSide;
  }
  const Vec<T> first = __builtin_shuffle(x, y, low);
  y = __builtin_shuffle(x, y, high);
  x = first;
}
#endif

template <class T, int kSide> RECURRA_INLINE void transpose_by(Vec<T> (&v)[kWidth<T>]) {
#pragma GCC unroll 16
  for (int i = 0; i < kWidth<T>; ++i)
    if (!(i & kSide)) exchange<T, kSide>(v[i], v[i | kSide]);
}

template <class T> RECURRA_INLINE void transpose(Vec<T> (&v)[kWidth<T>]) {
  if constexpr (kWidth<T> >= 16) transpose_by<T, 8>(v);
  if constexpr (kWidth<T> >= 8) transpose_by<T, 4>(v);
  if constexpr (kWidth<T> >= 4) transpose_by<T, 2>(v);
  transpose_by<T, 1>(v);
}

// The nearest bfloat16, ties to even, as a float.
template <class T> RECURRA_INLINE Vec<T> rounded(Vec<T> x) {
  if constexpr (sizeof(T) == 4) {
    const Bits<T> bits = (Bits<T>)x;
    const Bits<T> near = (bits + 0x7fff + ((bits >> 16) & 1)) & static_cast<int>(0xffff0000);
    // Of NaN only the sign and that it is one.
    const Bits<T> none = (bits | 0x400000) & static_cast<int>(0xffff0000);
    return (Vec<T>)(x == x ? near : none);
  }
  return x;
}

// Two rounded terms in one lane.
template <class T> RECURRA_INLINE Vec<T> paired(Vec<T> lower, Vec<T> upper) {
  if constexpr (sizeof(T) == 4) {
    typedef std::uint32_t Unsigned __attribute__((vector_size(kVectorBytes)));
    return (Vec<T>)(((Unsigned)lower >> 16) | (Unsigned)upper);
  }
  return lower;
}

// Write `many` terms of a column, from an even one on, the way its strip holds them.
template <class T> RECURRA_INLINE void put(const Strip<T>& strip, T* to, const Vec<T>* terms, int many) {
  const std::ptrdiff_t step = strip.vectors * kWidth<T>;
  if (strip.width == Width::kWhole) {
    for (int i = 0; i < many; ++i) store(to + i * step, terms[i]);
  } else if (strip.width == Width::kRounded) {
    for (int i = 0; i < many; ++i) store(to + i * step, rounded<T>(terms[i]));
  } else {
    for (int i = 0; i < many; i += 2)
      store(to + i / 2 * step, paired<T>(rounded<T>(terms[i]), i + 1 < many ? rounded<T>(terms[i + 1]) : Vec<T>{}));
  }
}

// Zeros after the terms of a column that fill a matrix tile.
template <class T> void fill_tile(const Strip<T>& strip, int v, int terms) {
  if (strip.width != Width::kTiled) return;
  const std::ptrdiff_t step = strip.vectors * kWidth<T>;
  for (std::ptrdiff_t k = depth(Width::kNarrow, terms); k < depth(Width::kTiled, terms); ++k)
    store(strip.panel + v * kWidth<T> + k * step, Vec<T>{});
}

// panel[k][v] = the vector whose lane u is column.weights[u * stride + k]: rows of a matrix become columns.
template <class T> void pack_rows(const Strip<T>& strip, int v, const Column<T>& column, int terms, std::ptrdiff_t stride) {
  constexpr int W = kWidth<T>;
  const std::ptrdiff_t step = strip.vectors * W;
  T* to = strip.panel + v * W;
  for (int k = 0; k < terms; k += W) {
    const int many = min(W, terms - k);
    Vec<T> square[W];
    if (many == W && column.width == W && !column.bfloat16) {
      const T* from = static_cast<const T*>(column.weights) + k;
#pragma GCC unroll 16
      for (int u = 0; u < W; ++u) square[u] = load(from + u * stride);
      transpose<T>(square);
      if (strip.width == Width::kWhole) {
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) store(to + (k + i) * step, square[i]);
      } else {
        put(strip, to + place(strip.width, k) * step, square, W);
      }
      continue;
    }
    for (int u = 0; u < W; ++u) square[u] = u >= column.width ? Vec<T>{} : column.get(u * stride + k, many);
    transpose<T>(square);
    put(strip, to + place(strip.width, k) * step, square, many);
  }
  fill_tile(strip, v, terms);
}

// panel[k][v] = the vector at column.weights + k * stride: rows stay rows.
template <class T> void pack_columns(const Strip<T>& strip, int v, const Column<T>& column, int terms, std::ptrdiff_t stride) {
  const std::ptrdiff_t step = strip.vectors * kWidth<T>;
  T* to = strip.panel + v * kWidth<T>;
  for (int k = 0; k < terms; k += 2) {
    const int many = min(2, terms - k);
    Vec<T> pair[2] = {};
    for (int i = 0; i < many; ++i) pair[i] = column.get((k + i) * stride, column.width);
    put(strip, to + place(strip.width, k) * step, pair, many);
  }
  fill_tile(strip, v, terms);
}

// rows[r] times the strips, added to `source` (or to nothing) and written to c. `next` is the panel that will be read
// after these; nullptr if it follows them in memory.
template <class T>
void multiply(const Strip<T>* strips, int count, int terms, const T* const* rows, int n, T* c, std::ptrdiff_t row,
              const T* source, std::ptrdiff_t source_row, const T* next = nullptr) {
  if (n == 0) return;
  const int tiles = (n + kTileRows - 1) / kTileRows;
  for (int s = 0; s < count; ++s) {
    const Strip<T>& strip = strips[s];
    for (int k = 0, many; k < terms; k += many) {
      many = min(kBlock, terms - k);
      const T* panel = strip.panel;
      if (strip.unpacked == nullptr) {
        panel += depth(strip.width, k) * strip.vectors * kWidth<T>;
      } else {
        for (int v = 0; v < strip.vectors; ++v) {
          Column<T> part = strip.unpacked[v];
          part.weights = part.at(k);
          pack_rows(strip, v, part, many, terms);
        }
      }
      for (int tile = 0; tile < tiles; ++tile) {
        const Share part = share_of(n, tile, tiles);
        const T* a[kTileRows];
        for (int r = part.begin; r < part.end; ++r) a[r - part.begin] = rows[r] + k;
        T* to = c + part.begin * row;
        const T* from = k > 0 ? to : source == nullptr ? nullptr : source + part.begin * source_row;
        // The panels lie in the order of their use, so what follows this block is read next.
        const bool last = next != nullptr && s + 1 == count && k + many == terms;
        const char* ahead =
            reinterpret_cast<const char*>(last ? next : panel + std::ptrdiff_t(many) * strip.vectors * kWidth<T>);
        const int step = min(64, (strip.vectors * kVectorBytes + tiles - 1) / tiles);
        const Out<T> out{to, row, strip.columns, from, k > 0 ? row : source_row, ahead + std::ptrdiff_t(step) * many * tile, step};
        (strip.width == Width::kNarrow ? micro_narrow_for<T> : micro_for<T>)(part.size(), strip.vectors)(many, a, panel, out);
      }
    }
  }
}

}  // namespace recurra::RECURRA_ISA
