// How much there is of something, and how it is cut into parts. Rows, units, terms and vectors of them are counted in int,
// which the binding sees to; whatever is multiplied is multiplied as a std::ptrdiff_t.
#pragma once

#include "vec.hpp"

namespace recurra::RECURRA_ISA {

template <class T> RECURRA_INLINE constexpr T min(T a, T b) { return b < a ? b : a; }
template <class T> RECURRA_INLINE constexpr T max(T a, T b) { return a < b ? b : a; }

// Where the nth of so many parts begins, as even as they go; that after the last begins at the end.
RECURRA_INLINE std::ptrdiff_t cut_at(std::ptrdiff_t count, std::ptrdiff_t nth, std::ptrdiff_t parts) {
  const std::ptrdiff_t product = count * nth;
  // Many CPUs divide short numbers several times as fast, and nearly all of these are short.
  if (static_cast<std::uint64_t>(product | parts) >> 32 == 0)
    return static_cast<std::uint32_t>(product) / static_cast<std::uint32_t>(parts);
  return product / parts;
}

template <class Size> struct Part {
  Size begin, end;

  RECURRA_INLINE Size size() const { return end - begin; }
};

// One of so many parts of something.
template <class Size> RECURRA_INLINE Part<Size> share_of(Size count, std::ptrdiff_t nth, std::ptrdiff_t parts) {
  return {static_cast<Size>(cut_at(count, nth, parts)), static_cast<Size>(cut_at(count, nth + 1, parts))};
}

// The whole vectors of units that one thread owns.
using Share = Part<int>;

}  // namespace recurra::RECURRA_ISA
