// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// Vectors of the set's width.
#pragma once

#include <cstdint>

#if defined(__AVX512F__) || defined(__FMA__)
#include <immintrin.h>
#endif

namespace swarr {
namespace {

#ifdef __AVX512F__
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

// Loads and stores through this type need no more alignment than an element has.
template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

// By value: a reference that a template returns has clang forget the type's alignment, and it takes a whole vector's.
template <class T>
[[gnu::always_inline]] inline Vector<T> Load(const T* p) {
  return *reinterpret_cast<const Vector<T>*>(p);
}
template <class T>
[[gnu::always_inline]] inline void Store(const Vector<T>& v, T* p) {
  *reinterpret_cast<Vector<T>*>(p) = v;
}

// a b + c where the product is exact, so that it does not matter whether it is rounded: one instruction where the set
// has it.
[[gnu::always_inline]] inline Vector<float> MultiplyExactlyAdd(Vector<float> a, float b, Vector<float> c) {
#if defined(__AVX512F__)
  return (Vector<float>)_mm512_fmadd_ps((__m512)a, _mm512_set1_ps(b), (__m512)c);
#elif defined(__FMA__)
  return (Vector<float>)_mm256_fmadd_ps((__m256)a, _mm256_set1_ps(b), (__m256)c);
#else
  return a * b + c;
#endif
}
[[gnu::always_inline]] inline Vector<double> MultiplyExactlyAdd(Vector<double> a, double b, Vector<double> c) {
#if defined(__AVX512F__)
  return (Vector<double>)_mm512_fmadd_pd((__m512d)a, _mm512_set1_pd(b), (__m512d)c);
#elif defined(__FMA__)
  return (Vector<double>)_mm256_fmadd_pd((__m256d)a, _mm256_set1_pd(b), (__m256d)c);
#else
  return a * b + c;
#endif
}

}  // namespace
}  // namespace swarr
