// Products in bfloat16 on the matrix tiles of a CPU that has them (x86's AMX): sums of 16 rows by 16 columns in float32.
// Both factors are rounded to bfloat16; numbers too small to be normal count as zero, as the instructions have it.
#pragma once

#include "pack.hpp"

#if defined(__AVX512F__) && defined(__x86_64__)
#define RECURRA_TILES 1
#define RECURRA_TILED __attribute__((target("amx-tile,amx-bf16,avx512bf16")))
#endif

namespace recurra::RECURRA_ISA {

// Rows and columns of a tile of sums, and the terms that one instruction adds to each of them.
constexpr int kTile = 16, kTileTerms = 32;

// Whether products of this type can run on tiles, given a machine that has them.
#if defined(RECURRA_TILES)
template <class T> constexpr bool kTiled = sizeof(T) == 4;
#else
template <class T> constexpr bool kTiled = false;
#endif

// Rows in bfloat16 as tiles are loaded from them: 16 rows of 32 terms lie together, and these in the order of the terms.
struct Halves {
  std::uint16_t* data = nullptr;
  std::ptrdiff_t deep = 0;  // how many of those the terms of a row take

  static std::ptrdiff_t deep_for(std::ptrdiff_t terms) { return (terms + kTileTerms - 1) / kTileTerms; }
  static std::size_t size(std::ptrdiff_t rows, std::ptrdiff_t terms) {
    return std::size_t((rows + kTile - 1) / kTile) * deep_for(terms) * kTile * kTileTerms;
  }
  std::uint16_t* at(std::ptrdiff_t row, std::ptrdiff_t term) const {
    return data + ((row / kTile * deep + term / kTileTerms) * kTile + row % kTile) * kTileTerms + term % kTileTerms;
  }
  const std::uint16_t* tile(std::ptrdiff_t row) const { return data + row / kTile * deep * kTile * kTileTerms; }
};

#if defined(RECURRA_TILES)

namespace tiles {

// Tiles 0 and 1 hold sums of the upper rows, 2 and 3 of the lower ones, 4 and 5 their factors, 6 and 7 those of weights.
struct alignas(64) Shape {
  std::uint8_t palette = 1, start = 0, none[14] = {};
  std::uint16_t bytes[16] = {};
  std::uint8_t rows[16] = {};
};

// How this thread's tiles are shaped, for shaping them takes as long as some products.
inline int& shaped() {
  static thread_local int now = 0;
  return now;
}

RECURRA_TILED inline void shape(int upper, int lower) {
  const int wanted = upper * 32 + lower;
  if (wanted == shaped()) return;
  shaped() = wanted;
  Shape shape;
  for (int i = 0; i < 8; ++i) {
    shape.bytes[i] = 64;
    shape.rows[i] = static_cast<std::uint8_t>(i > 5 ? kTile : i == 2 || i == 3 || i == 5 ? lower : upper);
  }
  _tile_loadconfig(&shape);
}

// What the sums start from, and where they go.
struct Sums {
  float* to;
  std::ptrdiff_t to_step;  // bytes from a row to the next
  const float* from;
  std::ptrdiff_t from_step;
};

#define RECURRA_BEGIN(tile, column, row)                                                                               \
  do {                                                                                                                 \
    if (sums.from == nullptr) {                                                                                        \
      _tile_zero(tile);                                                                                                \
    } else {                                                                                                           \
      _tile_loadd(tile, reinterpret_cast<const char*>(sums.from + (column)) + (row) * sums.from_step, sums.from_step); \
    }                                                                                                                  \
  } while (false)
#define RECURRA_END(tile, column, row) \
  _tile_stored(tile, reinterpret_cast<char*>(sums.to + (column)) + (row) * sums.to_step, sums.to_step)

// What will be read soon, fetched into the second cache by the way: so many lines for each tile of terms.
struct Ahead {
  const char* next;
  int lines;

  RECURRA_INLINE void fetch_some() {
    for (int i = 0; i < lines; ++i, next += 64) fetch(next);
  }
};

// Sixteen and more rows by one or two vectors of columns.
template <int NV>
RECURRA_TILED void two_by(std::ptrdiff_t deep, const std::uint16_t* upper, const std::uint16_t* lower, const float* panel,
                          int vectors, const std::ptrdiff_t* columns, const Sums& sums, Ahead& ahead) {
  const std::ptrdiff_t step = std::ptrdiff_t(vectors) * 64;
  RECURRA_BEGIN(0, columns[0], 0);
  RECURRA_BEGIN(2, columns[0], kTile);
  if constexpr (NV > 1) {
    RECURRA_BEGIN(1, columns[1], 0);
    RECURRA_BEGIN(3, columns[1], kTile);
  }
  for (std::ptrdiff_t k = 0; k < deep; ++k) {
    _tile_loadd(6, panel, step);
    _tile_loadd(4, upper, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, lower, 64);
    _tile_dpbf16ps(2, 5, 6);
    if constexpr (NV > 1) {
      _tile_loadd(7, panel + kTile, step);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(3, 5, 7);
    }
    upper += kTile * kTileTerms;
    lower += kTile * kTileTerms;
    panel += kTile * vectors * kTile;
    ahead.fetch_some();
  }
  RECURRA_END(0, columns[0], 0);
  RECURRA_END(2, columns[0], kTile);
  if constexpr (NV > 1) {
    RECURRA_END(1, columns[1], 0);
    RECURRA_END(3, columns[1], kTile);
  }
}

// Up to sixteen rows by up to four vectors of columns.
template <int NV>
RECURRA_TILED void one_by(std::ptrdiff_t deep, const std::uint16_t* rows, const float* panel, const std::ptrdiff_t* columns,
                          const Sums& sums, Ahead& ahead) {
  constexpr std::ptrdiff_t step = NV * 64;
  RECURRA_BEGIN(0, columns[0], 0);
  if constexpr (NV > 1) RECURRA_BEGIN(1, columns[1], 0);
  if constexpr (NV > 2) RECURRA_BEGIN(2, columns[2], 0);
  if constexpr (NV > 3) RECURRA_BEGIN(3, columns[3], 0);
  for (std::ptrdiff_t k = 0; k < deep; ++k) {
    _tile_loadd(4, rows, 64);
    _tile_loadd(6, panel, step);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (NV > 1) {
      _tile_loadd(7, panel + kTile, step);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (NV > 2) {
      _tile_loadd(6, panel + 2 * kTile, step);
      _tile_dpbf16ps(2, 4, 6);
    }
    if constexpr (NV > 3) {
      _tile_loadd(7, panel + 3 * kTile, step);
      _tile_dpbf16ps(3, 4, 7);
    }
    rows += kTile * kTileTerms;
    panel += kTile * NV * kTile;
    ahead.fetch_some();
  }
  RECURRA_END(0, columns[0], 0);
  if constexpr (NV > 1) RECURRA_END(1, columns[1], 0);
  if constexpr (NV > 2) RECURRA_END(2, columns[2], 0);
  if constexpr (NV > 3) RECURRA_END(3, columns[3], 0);
}

#undef RECURRA_BEGIN
#undef RECURRA_END

// All rows times one block of a strip.
RECURRA_TILED inline void block(const Halves& rows, std::ptrdiff_t first, std::ptrdiff_t deep, int n, const float* panel,
                                int vectors, const std::ptrdiff_t* columns, Sums sums, Ahead ahead) {
  const std::ptrdiff_t skip = first * kTile * kTileTerms;
  for (int r = 0; r < n;) {
    const int upper = n - r < kTile ? n - r : kTile, lower = n - r - upper < kTile ? n - r - upper : kTile;
    shape(upper, lower > 0 ? lower : upper);
    const std::uint16_t* a = rows.tile(r) + skip;
    if (lower > 0) {
      const std::uint16_t* b = rows.tile(r + kTile) + skip;
      int v = 0;
      for (; v + 1 < vectors; v += 2) two_by<2>(deep, a, b, panel + v * kTile, vectors, columns + v, sums, ahead);
      if (v < vectors) two_by<1>(deep, a, b, panel + v * kTile, vectors, columns + v, sums, ahead);
    } else if (vectors == 4) {
      one_by<4>(deep, a, panel, columns, sums, ahead);
    } else if (vectors == 3) {
      one_by<3>(deep, a, panel, columns, sums, ahead);
    } else if (vectors == 2) {
      one_by<2>(deep, a, panel, columns, sums, ahead);
    } else {
      one_by<1>(deep, a, panel, columns, sums, ahead);
    }
    const int done = upper + lower;
    r += done;
    sums.to = reinterpret_cast<float*>(reinterpret_cast<char*>(sums.to) + done * sums.to_step);
    if (sums.from != nullptr)
      sums.from = reinterpret_cast<const float*>(reinterpret_cast<const char*>(sums.from) + done * sums.from_step);
  }
}

}  // namespace tiles

// Sixteen terms of a row, from a multiple of sixteen on.
RECURRA_TILED inline void narrow_vector(const Halves& to, std::ptrdiff_t row, std::ptrdiff_t term, Vec<float> v) {
  const __m256bh halves = _mm512_cvtneps_pbh((__m512)v);
  std::memcpy(to.at(row, term), &halves, sizeof halves);
}

// Rows of `terms` terms at addresses, and zeros to the end of their last tile.
RECURRA_TILED inline void narrow_whole_rows(const Halves& to, const float* const* rows, int n, std::ptrdiff_t terms) {
  for (int r = 0; r < n; ++r) {
    std::uint16_t* at = to.at(r, 0);
    std::ptrdiff_t k = 0;
    for (; k + kTileTerms <= terms; k += kTileTerms, at += kTile * kTileTerms) {
      const __m512bh halves = _mm512_cvtne2ps_pbh((__m512)load(rows[r] + k + kTile), (__m512)load(rows[r] + k));
      std::memcpy(at, &halves, sizeof halves);
    }
    if (k == terms) continue;
    const std::ptrdiff_t left = terms - k;
    const Vec<float> low = load_first(rows[r] + k, static_cast<int>(min<std::ptrdiff_t>(left, kTile)));
    const Vec<float> high = left > kTile ? load_first(rows[r] + k + kTile, static_cast<int>(left - kTile)) : Vec<float>{};
    const __m512bh halves = _mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
    std::memcpy(at, &halves, sizeof halves);
  }
}

// The first n rows times the strips, as the other `multiply` has it. Blocks of terms come before strips, so that those of
// the rows stay in the first cache; a single tile of rows is read as fast from the second.
RECURRA_TILED inline void multiply_tiles(const Strip<float>* strips, int count, int terms, const Halves& rows, int n, float* c,
                                         std::ptrdiff_t row, const float* source, std::ptrdiff_t source_row, const float* next) {
  if (n == 0 || count == 0) return;
  const bool unpacked = strips[0].unpacked != nullptr;
  const int most = n > kTile || unpacked ? kBlock : terms;
  for (int k = 0, many; k < terms; k += many) {
    many = min(most, terms - k);
    const std::ptrdiff_t deep = Halves::deep_for(many);
    const tiles::Sums sums = k > 0 ? tiles::Sums{c, row * 4, c, row * 4} : tiles::Sums{c, row * 4, source, source_row * 4};
    for (int s = 0; s < count; ++s) {
      const Strip<float>& strip = strips[s];
      const float* panel = strip.panel;
      if (unpacked) {
        for (int v = 0; v < strip.vectors; ++v) {
          Column<float> part = strip.unpacked[v];
          part.weights = part.at(k);
          pack_rows(strip, v, part, many, terms);
        }
      } else {
        panel += place(strip.width, k) * strip.vectors * kTile;
      }
      tiles::Ahead ahead{nullptr, 0};
      const bool last = s + 1 == count, end = last && k + many == terms;
      if (!unpacked && (!end || next != nullptr)) {
        const Strip<float>& other = strips[last ? 0 : s + 1];
        ahead.next = reinterpret_cast<const char*>(
            end ? next : other.panel + place(other.width, last ? k + many : k) * other.vectors * kTile);
        const int passes = (n + 2 * kTile - 1) / (2 * kTile) * (n > kTile ? (strip.vectors + 1) / 2 : 1);
        ahead.lines = (kTile * strip.vectors + passes - 1) / passes;
      }
      tiles::block(rows, k / kTileTerms, deep, n, panel, strip.vectors, strip.columns, sums, ahead);
    }
  }
}

// While one lives the thread's tiles are its own; afterwards they are as if never used.
class UsesTiles {
 public:
  explicit UsesTiles(bool used) : used_(used) {}
  UsesTiles(const UsesTiles&) = delete;
  RECURRA_TILED ~UsesTiles() {
    if (!used_ || tiles::shaped() == 0) return;
    _tile_release();
    tiles::shaped() = 0;
  }

 private:
  const bool used_;
};

// Two terms of sixteen lanes, the second in the upper halves.
RECURRA_TILED inline Vec<float> paired_halves(Vec<float> lower, Vec<float> upper) {
  const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)lower));
  const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)upper));
  return (Vec<float>)_mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

// Sixteen units of up to 32 rows from `from` on, `row` elements apart, as one tile whose rows are the units.
RECURRA_TILED inline void narrow_turned(std::uint16_t* to, const float* from, std::ptrdiff_t row, int many) {
  Vec<float> square[kTile];
  for (int i = 0; i < kTile; ++i) {
    const Vec<float> low = 2 * i < many ? load(from + 2 * i * row) : Vec<float>{};
    const Vec<float> high = 2 * i + 1 < many ? load(from + (2 * i + 1) * row) : Vec<float>{};
    square[i] = paired_halves(low, high);
  }
  transpose<float>(square);
  for (int u = 0; u < kTile; ++u) std::memcpy(to + u * kTileTerms, &square[u], 64);
}

#else

struct UsesTiles {
  explicit UsesTiles(bool) {}
};

#endif

// The same for whatever type, so that what is never run on tiles compiles too.
template <class T> void narrow(const Halves& to, std::ptrdiff_t row, std::ptrdiff_t term, Vec<T> v) {
  if constexpr (kTiled<T>) narrow_vector(to, row, term, v);
}
template <class T> void narrow_rows(const Halves& to, const T* const* rows, int n, std::ptrdiff_t terms) {
  if constexpr (kTiled<T>) narrow_whole_rows(to, rows, n, terms);
}
template <class T>
void multiply(const Strip<T>* strips, int count, int terms, const Halves& rows, int n, T* c, std::ptrdiff_t row,
              const T* source, std::ptrdiff_t source_row, const T* next = nullptr) {
  if constexpr (kTiled<T>) multiply_tiles(strips, count, terms, rows, n, c, row, source, source_row, next);
}

}  // namespace recurra::RECURRA_ISA
