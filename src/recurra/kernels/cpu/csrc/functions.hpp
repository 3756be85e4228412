// The functions of recurra.cells.algebra on vectors.
#pragma once

#include "vec.hpp"

namespace recurra::RECURRA_ISA {

template <class T> struct Numbers;
template <> struct Numbers<float> {
  // Taylor's coefficients of exp(r) - 1: at |r| <= ln(2)/2 the first one left out is below 2e-8 of the result.
  static constexpr int terms = 7;
  static constexpr float inverse_ln2 = 1.44269504088896341f;
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440054690583e-4f;
  static constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  static constexpr int mantissa = 23;
  static constexpr float least = -103.98f, most = 88.73f;  // exp below and above is 0 and infinite
};
template <> struct Numbers<double> {
  static constexpr int terms = 14;
  static constexpr double inverse_ln2 = 1.44269504088896340736;
  static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
  static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int mantissa = 52;
  static constexpr double least = -745.2, most = 709.79;
};

// 1/n! for n = 1 ... ; computed by the compiler.
template <class T> constexpr T inverse_factorial(int n) {
  T product = 1;
  for (int i = 2; i <= n; ++i) product *= static_cast<T>(i);
  return static_cast<T>(1) / product;
}

template <class T> struct Reduced {
  Vec<T> p;       // exp(r) - 1 of the remainder r
  Bits<T> power;  // x = power * ln 2 + r
};

template <class T> RECURRA_INLINE Reduced<T> reduce(Vec<T> x) {
  using N = Numbers<T>;
  const Vec<T> shifted = madd(x, splat(N::inverse_ln2), splat(N::round));
  const Vec<T> n = shifted - splat(N::round);
  Vec<T> r = madd(n, splat(-N::ln2_high), x);
  r = madd(n, splat(-N::ln2_low), r);
  Vec<T> p = splat(inverse_factorial<T>(N::terms));
#pragma GCC unroll 16
  for (int i = N::terms - 1; i >= 2; --i) p = madd(p, r, splat(inverse_factorial<T>(i)));
  // r + r^2 (1/2 + ...): the leading term stays exact.
  p = madd(p * r, r, r);
  const Bits<T> power = (Bits<T>)shifted - (Bits<T>)splat(N::round);
  return {p, power};
}

// 2^n, for n within the normal range.
template <class T> RECURRA_INLINE Vec<T> power_of_two(Bits<T> n) {
  return (Vec<T>)((Bits<T>)splat(T(1)) + (n << Numbers<T>::mantissa));
}

// NaN passes through every comparison below as false, and so through the arithmetic.
template <class T> RECURRA_INLINE Vec<T> vmin(Vec<T> x, T bound) { return x > splat(bound) ? splat(bound) : x; }
template <class T> RECURRA_INLINE Vec<T> vmax(Vec<T> x, T bound) { return x < splat(bound) ? splat(bound) : x; }

template <class T> RECURRA_INLINE Vec<T> vexp(Vec<T> x) {
  using N = Numbers<T>;
  const Vec<T> bounded = vmax<T>(vmin<T>(x, N::most), N::least);
  const Reduced<T> e = reduce<T>(bounded);
  // The power in two halves, for near the ends it is not a normal number.
  const Bits<T> half = e.power >> 1;
  Vec<T> y = madd(e.p, power_of_two<T>(half), power_of_two<T>(half)) * power_of_two<T>(e.power - half);
  y = x < splat(N::least) ? splat(T(0)) : y;
  return x > splat(N::most) ? splat(static_cast<T>(__builtin_inf())) : y;
}

template <class T> RECURRA_INLINE Vec<T> vsigmoid(Vec<T> x) {
  // exp never overflows here: beyond the bound the quotient is below the smallest normal number's reach of 1 + e.
  using N = Numbers<T>;
  const Vec<T> y = vmin<T>(vmax<T>(-x, N::least), N::most);
  const Reduced<T> e = reduce<T>(y);
  const Bits<T> half = e.power >> 1;
  const Vec<T> exponential = madd(e.p, power_of_two<T>(half), power_of_two<T>(half)) * power_of_two<T>(e.power - half);
  return splat(T(1)) / (splat(T(1)) + exponential);
}

template <class T> RECURRA_INLINE Vec<T> vtanh(Vec<T> x) {
  // (e^2x - 1) / (e^2x + 1) with e^2x - 1 taken whole, which keeps small x exact; beyond 22 it is 1 in any precision.
  const Vec<T> bounded = vmax<T>(vmin<T>(x, T(22)), T(-22));
  const Reduced<T> e = reduce<T>(bounded + bounded);
  const Vec<T> scale = power_of_two<T>(e.power);
  const Vec<T> less_one = madd(e.p, scale, scale - splat(T(1)));
  const Vec<T> y = less_one / (less_one + splat(T(2)));
  // The sign is that of x; the sums above lose that of zero.
  return (Vec<T>)((Bits<T>)y | ((Bits<T>)x & (Bits<T>)splat(T(-0.0))));
}

template <class T> RECURRA_INLINE Vec<T> vrelu(Vec<T> x) { return vmax<T>(x, T(0)); }

template <class T> RECURRA_INLINE Vec<T> vclamp(Vec<T> x, T low, T high) { return vmin<T>(vmax<T>(x, low), high); }

// d where the clamped value lay within its bounds, else 0; as torch has it, the bounds themselves are within and NaN is not.
template <class T> RECURRA_INLINE Vec<T> within(Vec<T> d, Vec<T> x, T low, T high) {
  const Vec<T> kept = x >= splat(low) ? d : splat(T(0));
  return x <= splat(high) ? kept : splat(T(0));
}

// 0 where relu's y is 0, else d; as torch has it, also where y is NaN.
template <class T> RECURRA_INLINE Vec<T> where_positive(Vec<T> d, Vec<T> y) {
  return y <= splat(T(0)) ? splat(T(0)) : d;
}

}  // namespace recurra::RECURRA_ISA
