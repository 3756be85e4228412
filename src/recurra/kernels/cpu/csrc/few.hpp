// Short arrays that every instruction set shares with the module around it.
#pragma once

#include <cstddef>

// Part of its caller at every level of optimisation. A function that is compiled once for each instruction set has to be
// this, or has to be in a namespace of the set's own: of functions that are the same by name the linker keeps any one,
// also where a machine lacks its instructions. For the same reason no such code uses the standard library's containers.
#define RECURRA_INLINE inline __attribute__((always_inline))

namespace recurra {

// At most `kMost` values.
template <class T, int kMost> struct Few {
  T values[kMost] = {};
  int count = 0;

  RECURRA_INLINE T& operator[](std::ptrdiff_t i) { return values[i]; }
  RECURRA_INLINE const T& operator[](std::ptrdiff_t i) const { return values[i]; }
  RECURRA_INLINE T* begin() { return values; }
  RECURRA_INLINE T* end() { return values + count; }
  RECURRA_INLINE const T* begin() const { return values; }
  RECURRA_INLINE const T* end() const { return values + count; }
  RECURRA_INLINE std::size_t size() const { return static_cast<std::size_t>(count); }
  RECURRA_INLINE bool empty() const { return count == 0; }
  RECURRA_INLINE void push_back(const T& value) { values[count++] = value; }
};

}  // namespace recurra
