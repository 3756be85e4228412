// Vectors of the instruction set that this translation unit is compiled for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "few.hpp"

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

// Everything below is compiled once for each instruction set and must not be merged by the linker, as few.hpp says.
#if defined(__AVX512F__)
#define RECURRA_ISA avx512
#elif defined(__AVX2__)
#define RECURRA_ISA avx2
#else
#define RECURRA_ISA portable
#endif

namespace recurra::RECURRA_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

// The widest tile whose accumulators, one column of weights and one broadcast stay in registers.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileVectors = 4;
#else
constexpr int kTileVectors = 2;
#endif
constexpr int kTileRows = 6;

template <class T> struct Vector;
template <> struct Vector<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef float loose __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
  typedef std::int32_t bits __attribute__((vector_size(kVectorBytes)));
  static constexpr int width = kVectorBytes / 4;
};
template <> struct Vector<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef double loose __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
  typedef std::int64_t bits __attribute__((vector_size(kVectorBytes)));
  static constexpr int width = kVectorBytes / 8;
};

template <class T> using Vec = typename Vector<T>::type;
template <class T> using Bits = typename Vector<T>::bits;
template <class T> constexpr int kWidth = Vector<T>::width;

template <class T> RECURRA_INLINE Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename Vector<T>::loose*>(p);
}
template <class T> RECURRA_INLINE void store(T* p, Vec<T> v) { *reinterpret_cast<typename Vector<T>::loose*>(p) = v; }

// The first n lanes; the others read as zero.
template <class T> RECURRA_INLINE Vec<T> load_first(const T* p, int n) {
  Vec<T> v = {};
  std::memcpy(&v, p, n * sizeof(T));
  return v;
}
template <class T> RECURRA_INLINE void store_first(T* p, Vec<T> v, int n) { std::memcpy(p, &v, n * sizeof(T)); }

#if defined(__AVX512F__)
RECURRA_INLINE Vec<float> splat(float x) { return _mm512_set1_ps(x); }
RECURRA_INLINE Vec<double> splat(double x) { return _mm512_set1_pd(x); }
RECURRA_INLINE Vec<float> madd(Vec<float> a, Vec<float> b, Vec<float> c) { return _mm512_fmadd_ps(a, b, c); }
RECURRA_INLINE Vec<double> madd(Vec<double> a, Vec<double> b, Vec<double> c) { return _mm512_fmadd_pd(a, b, c); }
#elif defined(__AVX2__)
RECURRA_INLINE Vec<float> splat(float x) { return _mm256_set1_ps(x); }
RECURRA_INLINE Vec<double> splat(double x) { return _mm256_set1_pd(x); }
RECURRA_INLINE Vec<float> madd(Vec<float> a, Vec<float> b, Vec<float> c) { return _mm256_fmadd_ps(a, b, c); }
RECURRA_INLINE Vec<double> madd(Vec<double> a, Vec<double> b, Vec<double> c) { return _mm256_fmadd_pd(a, b, c); }
#else
RECURRA_INLINE Vec<float> splat(float x) { return Vec<float>{x, x, x, x}; }
RECURRA_INLINE Vec<double> splat(double x) { return Vec<double>{x, x}; }
#if defined(__ARM_NEON) && defined(__aarch64__)
RECURRA_INLINE Vec<float> madd(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
RECURRA_INLINE Vec<double> madd(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#else
RECURRA_INLINE Vec<float> madd(Vec<float> a, Vec<float> b, Vec<float> c) { return a * b + c; }
RECURRA_INLINE Vec<double> madd(Vec<double> a, Vec<double> b, Vec<double> c) { return a * b + c; }
#endif
#endif

}  // namespace recurra::RECURRA_ISA
