// Vectors of the processor's width, by the extensions of gcc and clang; sums; the exponential.

#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
#define ILS_BYTES 64
#elif defined(__AVX__)
#define ILS_BYTES 32
#else
#define ILS_BYTES 16
#endif
#define ILS_VECTOR(type, bytes) type __attribute__((vector_size(bytes)))

template <class T>
struct Lanes;

template <>
struct Lanes<float> {
  static constexpr int width = ILS_BYTES / 4;
  typedef uint32_t Bits;
  typedef ILS_VECTOR(float, ILS_BYTES) V;
  typedef ILS_VECTOR(uint32_t, ILS_BYTES) U;
  typedef ILS_VECTOR(int32_t, ILS_BYTES) I;
  typedef ILS_VECTOR(uint8_t, ILS_BYTES / 4) B;
};

template <>
struct Lanes<double> {
  static constexpr int width = ILS_BYTES / 8;
  typedef uint64_t Bits;
  typedef ILS_VECTOR(double, ILS_BYTES) V;
  typedef ILS_VECTOR(uint64_t, ILS_BYTES) U;
  typedef ILS_VECTOR(int64_t, ILS_BYTES) I;
  typedef ILS_VECTOR(uint8_t, ILS_BYTES / 8) B;
};

template <class T>
using Vec = typename Lanes<T>::V;
template <class T>
using Mask = typename Lanes<T>::I;

template <class T>
inline Vec<T> all(T value) {
  return value - Vec<T>{};
}

template <class T>
inline Vec<T> load(const T* from) {
  Vec<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class T>
inline void store(T* to, Vec<T> v) {
  std::memcpy(to, &v, sizeof v);
}

// The first n entries, at least one and fewer than a vector; the other lanes are zero.
template <class T>
inline Vec<T> load_some(const T* from, int64_t n) {
  Vec<T> v{};
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    v = (Vec<T>)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), from);
  } else {
    v = (Vec<T>)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), from);
  }
#else
  T lanes[Lanes<T>::width] = {};
  for (int64_t k = 0; k < n; ++k) lanes[k] = from[k];
  std::memcpy(&v, lanes, sizeof v);
#endif
  return v;
}

template <class T>
inline void store_some(T* to, Vec<T> v, int64_t n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << n) - 1), (__m512)v);
  } else {
    _mm512_mask_storeu_pd(to, (__mmask8)((1u << n) - 1), (__m512d)v);
  }
#else
  for (int64_t k = 0; k < n; ++k) to[k] = v[k];
#endif
}

// Whether a lane lies before the n-th.
template <class T>
inline Mask<T> before(int64_t n) {
  Mask<T> index;
  for (int k = 0; k < Lanes<T>::width; ++k) index[k] = k;
  return index < (Mask<T>{} + (std::remove_reference_t<decltype(index[0])>)n);
}

template <class T>
inline Mask<T> load_mask(const bool* from, int64_t n) {
  typename Lanes<T>::B bytes{};
  std::memcpy(&bytes, from, n);
  return __builtin_convertvector(bytes, Mask<T>) != 0;
}

template <class T>
inline bool any(Mask<T> mask) {
  bool found = false;
  for (int k = 0; k < Lanes<T>::width; ++k) found |= mask[k] != 0;
  return found;
}

// Across the lanes, halving each time: the chain of operations is short.
template <class T>
inline T largest(Vec<T> v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    return _mm512_reduce_max_ps((__m512)v);
  } else {
    return _mm512_reduce_max_pd((__m512d)v);
  }
#else
  T lanes[Lanes<T>::width];
  std::memcpy(lanes, &v, sizeof v);
  for (int half = Lanes<T>::width / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) {
      lanes[k] = lanes[k + half] > lanes[k] ? lanes[k + half] : lanes[k];
    }
  }
  return lanes[0];
#endif
}

inline double sum_of(Vec<double> v) {
  constexpr int width = Lanes<double>::width;
  double lanes[width];
  std::memcpy(lanes, &v, sizeof v);
#pragma GCC unroll 4
  for (int half = width / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) lanes[k] += lanes[k + half];
  }
  return lanes[0];
}

// Calls f(k, n) for each vector of a row: its first index, and how many entries it holds.
// Full vectors come with a constant n, so that the compiler drops the other case.
template <class T, class F>
inline void each_vector(int64_t size, F f) {
  constexpr int width = Lanes<T>::width;
  int64_t k = 0;
  for (; k + width <= size; k += width) f(k, std::integral_constant<int64_t, width>{});
  if (k < size) f(k, size - k);
}

template <class T, class N>
inline Vec<T> load_n(const T* from, N n) {
  if constexpr (std::is_same_v<N, std::integral_constant<int64_t, Lanes<T>::width>>) {
    return load(from);
  } else {
    return load_some(from, n);
  }
}

// The same, with a value of one's choice in the lanes past the end.
template <class T, class N>
inline Vec<T> load_or(const T* from, N n, T other) {
  if constexpr (std::is_same_v<N, std::integral_constant<int64_t, Lanes<T>::width>>) {
    return load(from);
  } else {
    return before<T>(n) ? load_some(from, n) : all<T>(other);
  }
}

template <class T, class N>
inline void store_n(T* to, Vec<T> v, N n) {
  if constexpr (std::is_same_v<N, std::integral_constant<int64_t, Lanes<T>::width>>) {
    store(to, v);
  } else {
    store_some(to, v, n);
  }
}

// A sum in doubles, lane by lane.
template <class T>
struct Sum;

template <>
struct Sum<double> {
  Vec<double> lanes{};
  inline void add(Vec<double> v) { lanes += v; }
  inline double total() const { return sum_of(lanes); }
};

template <>
struct Sum<float> {
  Vec<double> low{}, high{};
  inline void add(Vec<float> v) {
    typedef ILS_VECTOR(float, ILS_BYTES / 2) Half;
    Half halves[2];
    std::memcpy(halves, &v, sizeof v);
    low += __builtin_convertvector(halves[0], Vec<double>);
    high += __builtin_convertvector(halves[1], Vec<double>);
  }
  inline double total() const { return sum_of(low + high); }
};

// --- the exponential ------------------------------------------------------------------

template <class T>
struct Exp;

template <>
struct Exp<float> {
  static constexpr float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  static constexpr int mantissa = 23, bias = 127, degree = 7;
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
};

template <>
struct Exp<double> {
  static constexpr double shift = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int mantissa = 52, bias = 1023, degree = 13;
  static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
};

// exp(t) for t <= 0, and zero below the cutoff, which is above the logarithm of the smallest normal
// number.  exp(t) = 2^n exp(r) with n = round(t / ln 2) and |r| <= ln(2) / 2: the Taylor series.
template <class T>
inline Vec<T> exponential(Vec<T> t, T cutoff) {
  using E = Exp<T>;
  using U = typename Lanes<T>::U;
  Vec<T> n = t * (T)1.4426950408889634 + E::shift;
  U bits = ((U)n << E::mantissa) + ((typename Lanes<T>::Bits)E::bias << E::mantissa);
  n -= E::shift;
  Vec<T> r = t - n * E::ln2_high - n * E::ln2_low;
  double factorial = 1;
  T coefficient[E::degree + 1];
  for (int k = 0; k <= E::degree; ++k) {
    if (k > 1) factorial *= k;
    coefficient[k] = (T)(1 / factorial);
  }
  Vec<T> p = all<T>(coefficient[E::degree]);
#pragma GCC unroll 16
  for (int k = E::degree - 1; k >= 0; --k) p = p * r + coefficient[k];
  p *= (Vec<T>)bits;
  // Written so that NaN is not below, and stays.
  return t < all<T>(cutoff) ? Vec<T>{} : p;
}

}  // namespace
