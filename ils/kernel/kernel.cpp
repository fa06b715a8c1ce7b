// The draw and the gradients of ils.sample in few passes over memory, for CPUs.
//
// What each function computes is stated where the package computes it without this file: the draw
// in ils/draw.py, the gradients in ils/rule.py.  Built by `python -m ils.kernel`.
//
// Compiled without -ffast-math: minus infinity masks a category, and NaN must stay NaN.
// Results do not depend on the number of threads: every sum has one order.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

using at::Tensor;

// --- vectors --------------------------------------------------------------------------

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

// --- the draw -------------------------------------------------------------------------

// The widths of ils/draw.py, so that one uniform number means the same category there and here.
constexpr int64_t short_row = 64, long_row = 65536;

// How many uniform numbers a draw takes: one for the whole row, or one for a block and one within.
inline int64_t levels_of(int64_t categories, int64_t points) {
  return categories <= short_row || points * 32 > categories ? 1 : 2;
}

inline int64_t block_width(int64_t categories) {
  if (categories <= short_row) return categories;
  const int64_t least = categories <= long_row ? 32 : 256;
  // Blocks of whole half-vectors without a shorter one at the end, where a divisor allows.
  int64_t chosen = 0, fewest = 0;
  for (int64_t width = least; width <= 4 * least; width += 8) {
    if (categories % width) continue;
    const int64_t steps = categories / width + width;
    if (chosen == 0 || steps < fewest) chosen = width, fewest = steps;
  }
  if (chosen) return chosen;
  return categories < 512 ? 32 : categories <= long_row ? 128 : 1024;
}

// A thread is worth waking for this many entries.
constexpr int64_t grain = 16384;

inline int64_t rows_a_thread(int64_t size) {
  return std::max<int64_t>(1, grain / std::max<int64_t>(1, size));
}

// The largest entry; NaN is passed over, the sum of the weights tells of it.
template <class T>
T top_of(const T* x, int64_t size) {
  constexpr int width = Lanes<T>::width;
  const T lowest = -std::numeric_limits<T>::infinity();
  Vec<T> tops[4] = {all<T>(lowest), all<T>(lowest), all<T>(lowest), all<T>(lowest)};
  int64_t k = 0;
  for (; k + 4 * width <= size; k += 4 * width) {
    for (int j = 0; j < 4; ++j) {
      Vec<T> v = load(x + k + j * width);
      tops[j] = v > tops[j] ? v : tops[j];
    }
  }
  each_vector<T>(size - k, [&](int64_t j, auto n) {
    Vec<T> v = load_or(x + k + j, n, lowest);
    tops[0] = v > tops[0] ? v : tops[0];
  });
  for (int j = 1; j < 4; ++j) tops[0] = tops[j] > tops[0] ? tops[j] : tops[0];
  return largest<T>(tops[0]);
}

// exp(x - top), stored where there is a place for it, and its sum.
template <bool stored, class T>
double weights_of(const T* x, T* weights, int64_t size, T top, T cutoff) {
  Sum<T> sum;
  each_vector<T>(size, [&](int64_t k, auto n) {
    Vec<T> v = exponential<T>(load_or(x + k, n, -std::numeric_limits<T>::infinity()) - top, cutoff);
    sum.add(v);
    if constexpr (stored) store_n(weights + k, v, n);
  });
  return sum.total();
}

// exp(x - top) * factor
template <class T>
void softmax_of(const T* x, T* probs, int64_t size, T top, T cutoff, T factor) {
  each_vector<T>(size, [&](int64_t k, auto n) {
    store_n(probs + k, exponential<T>(load_n(x + k, n) - top, cutoff) * factor, n);
  });
}

template <class T>
void scale(const T* x, T* to, int64_t size, T factor) {
  each_vector<T>(size, [&](int64_t k, auto n) { store_n(to + k, load_n(x + k, n) * factor, n); });
}

template <class T>
int64_t last_weight(const T* weights, int64_t size) {
  int64_t k = size - 1;
  while (k > 0 && !(weights[k] > 0)) --k;
  return k;
}

// min {k : w_0 + ... + w_k > point}, in doubles; the point becomes what is left of it there.  Where
// rounding lets the sum fall short, the last entry with a weight: one of weight zero never is it.
template <class T>
int64_t search(const T* weights, int64_t size, double& point) {
  double sum = 0;
  for (int64_t k = 0; k < size; ++k) {
    const double before = sum;
    sum += weights[k];
    if (sum > point) {
      point -= before;
      return k;
    }
  }
  const int64_t last = last_weight(weights, size);
  point = weights[last];
  return last;
}

// Below which a weight counts as zero: a probability is then zero or a normal number.
template <class T>
T cutoff_for(int64_t categories) {
  return std::log(std::numeric_limits<T>::min()) + std::log((T)categories) + (T)0.01;
}

// Draws from rows of logits (R, K) by uniforms (R, n) or (R, n, 2): z (n, R, K) if there is a place
// for it, at (n, R), probs (R, K) likewise.  False if a row has no law.
template <class T>
struct Draw {
  const T* logits;
  const double* uniform;
  int64_t* at;
  T* probs;
  int64_t rows, categories, points;

  const int64_t width = block_width(categories);
  const int64_t blocks = width ? (categories + width - 1) / width : 0;
  const int64_t levels = levels_of(categories, points);
  const T cutoff = cutoff_for<T>(categories);

  int64_t size_of(int64_t block) const { return std::min(width, categories - block * width); }

  static bool lawful(T top, double total) {
    return std::isfinite(top) && std::isfinite(total) && total > 0;
  }

  // One block a row.  The search goes through eight rows at once and without branches: which
  // category it is cannot be foreseen, and a wrong guess would hold up the row after.
  template <class Z>
  bool single_blocks(Z* z, int64_t begin, int64_t end) const {
    constexpr int64_t group = 8;
    T scratch[group * short_row] = {};
    bool good = true;
    for (int64_t from = begin; from < end; from += group) {
      const int64_t count = std::min(group, end - from);
      T* w = probs && count == group ? probs + from * categories : scratch;
      double total[group] = {};
      for (int64_t j = 0; j < count; ++j) {
        const T* x = logits + (from + j) * categories;
        const T top = top_of(x, categories);
        total[j] = weights_of<true>(x, w + j * categories, categories, top, cutoff);
        good &= lawful(top, total[j]);
      }
      for (int64_t n = 0; n < points; ++n) {
        double point[group] = {}, sum[group] = {};
        int64_t index[group] = {};
        for (int64_t j = 0; j < count; ++j) point[j] = uniform[(from + j) * points + n] * total[j];
        for (int64_t k = 0; k < categories; ++k) {
          for (int64_t j = 0; j < group; ++j) {
            sum[j] += w[j * categories + k];
            index[j] += sum[j] <= point[j];
          }
        }
        if (z) {
          Z* to = z + (n * rows + from) * categories;
          std::memset((void*)to, 0, count * categories * sizeof(Z));
        }
        for (int64_t j = 0; j < count; ++j) {
          const int64_t row = from + j, k = last_of(w + j * categories, index[j]);
          at[n * rows + row] = k;
          if (z) z[(n * rows + row) * categories + k] = 1;
        }
      }
      if (!probs) continue;
      for (int64_t j = 0; j < count; ++j) {
        scale(w + j * categories, probs + (from + j) * categories, categories, (T)(1 / total[j]));
      }
    }
    return good;
  }

  // The index, or the last entry with a weight where rounding let the sum fall short of the total.
  int64_t last_of(const T* w, int64_t index) const {
    return index < categories ? index : last_weight(w, categories);
  }

  // Rows that fit a near cache: the weights are stored, then divided by their sum.
  template <class Z>
  bool short_rows(Z* z, int64_t begin, int64_t end) const {
    if (categories <= short_row) return single_blocks(z, begin, end);
    std::vector<T> scratch(probs ? 0 : categories);
    std::vector<double> sums(blocks);
    bool good = true;
    for (int64_t row = begin; row < end; ++row) {
      const T* x = logits + row * categories;
      T* w = probs ? probs + row * categories : scratch.data();
      const T top = top_of(x, categories);
      double total = 0;
      for (int64_t b = 0; b < blocks; ++b) {
        sums[b] = weights_of<true>(x + b * width, w + b * width, size_of(b), top, cutoff);
        total += sums[b];
      }
      good &= lawful(top, total);
      for (int64_t n = 0; n < points; ++n) {
        const double* u = uniform + (row * points + n) * levels;
        double point = u[0] * total;
        const int64_t block = search(sums.data(), blocks, point), first = block * width;
        if (levels == 2) point = u[1] * sums[block];
        const int64_t k = first + search(w + first, size_of(block), point);
        at[n * rows + row] = k;
        if (!z) continue;
        Z* to = z + (n * rows + row) * categories;
        std::memset((void*)to, 0, categories * sizeof(Z));
        to[k] = 1;
      }
      if (probs) scale(w, w, categories, (T)(1 / total));
    }
    return good;
  }

  // Long rows, block by block: exponentials are cheaper than another way to memory and back.
  template <class Z>
  bool long_rows(Z* z) const {
    const int64_t parts = rows * blocks;
    std::vector<double> sums(parts), totals(rows);
    std::vector<T> tops(parts), top(rows);
    at::parallel_for(0, parts, std::max<int64_t>(1, grain / width), [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        const int64_t row = part / blocks, block = part % blocks, size = size_of(block);
        const T* x = logits + row * categories + block * width;
        T most = tops[part] = top_of(x, size);
        // Of a block that is masked throughout, NaN only if it holds one.
        if (most == -std::numeric_limits<T>::infinity()) most = 0;
        sums[part] = weights_of<false>(x, (T*)nullptr, size, most, cutoff);
        for (int64_t n = 0; z && n < points; ++n) {
          std::memset((void*)(z + (n * rows + row) * categories + block * width), 0, size * sizeof(Z));
        }
      }
    });
    bool good = true;
    std::vector<T> inside(width);
    for (int64_t row = 0; row < rows; ++row) {
      double* sum = sums.data() + row * blocks;
      const T* most = tops.data() + row * blocks;
      top[row] = *std::max_element(most, most + blocks);
      for (int64_t b = 0; b < blocks; ++b) {
        const T below = most[b] - top[row];
        // NaN stays NaN.
        sum[b] = below < cutoff ? 0 * sum[b] : sum[b] * std::exp((double)below);
        totals[row] += sum[b];
      }
      good &= lawful(top[row], totals[row]);
      for (int64_t n = 0; n < points; ++n) {
        const double* u = uniform + (row * points + n) * levels;
        double point = u[0] * totals[row];
        const int64_t block = search(sum, blocks, point), first = block * width;
        const double total = weights_of<true>(
            logits + row * categories + first, inside.data(), size_of(block), top[row], cutoff);
        if (levels == 2) point = u[1] * total;
        const int64_t k = first + search(inside.data(), size_of(block), point);
        at[n * rows + row] = k;
        if (z) z[(n * rows + row) * categories + k] = 1;
      }
    }
    if (!probs) return good;
    at::parallel_for(0, parts, std::max<int64_t>(1, grain / width), [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        const int64_t row = part / blocks, block = part % blocks;
        const int64_t first = row * categories + block * width;
        softmax_of(logits + first, probs + first, size_of(block), top[row], cutoff,
                   (T)(1 / totals[row]));
      }
    });
    return good;
  }

  template <class Z>
  bool run(Z* z) const {
    if (categories > long_row) return long_rows(z);
    std::atomic<bool> good{true};
    at::parallel_for(0, rows, rows_a_thread(categories), [&](int64_t begin, int64_t end) {
      if (!short_rows(z, begin, end)) good = false;
    });
    return good;
  }
};

inline at::ScalarType work_type(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// Contiguous and of a type: asking first is quicker than a conversion that does nothing.
inline Tensor ready(const Tensor& x, at::ScalarType type) {
  if (x.scalar_type() == type && x.is_contiguous()) return x;
  return x.to(type).contiguous();
}

// (z, at, probs), with draws in front of the batch; what is not wanted is empty.
std::tuple<Tensor, Tensor, Tensor> draw(const Tensor& logits, const Tensor& uniform, bool keep_probs,
                                        bool one_hot, at::IntArrayRef draws) {
  TORCH_CHECK(logits.dim() > 0 && logits.size(-1) > 0 && logits.is_floating_point(),
              "logits: expected a floating-point tensor with a category");
  const int64_t categories = logits.size(-1), rows = logits.numel() / categories;
  const int64_t points = c10::multiply_integers(draws), levels = levels_of(categories, points);
  TORCH_CHECK(uniform.scalar_type() == at::kDouble && uniform.numel() == rows * points * levels,
              "uniform: expected ", rows * points * levels, " numbers in float64");
  const Tensor x = ready(logits, work_type(logits)), u = ready(uniform, at::kDouble);
  std::vector<int64_t> shape(draws.begin(), draws.end());
  shape.insert(shape.end(), logits.sizes().begin(), logits.sizes().end());
  Tensor z;
  if (one_hot) z = at::empty(shape, logits.options());
  shape.back() = 1;
  Tensor at = at::empty(shape, logits.options().dtype(at::kLong));
  Tensor probs;
  if (keep_probs) probs = at::empty(logits.sizes(), x.options());
  bool good = true;
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "ils_draw", [&] {
    using T = scalar_t;
    const Draw<T> way{x.const_data_ptr<T>(), u.const_data_ptr<double>(), at.mutable_data_ptr<int64_t>(),
                      keep_probs ? probs.mutable_data_ptr<T>() : nullptr, rows, categories, points};
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, logits.scalar_type(), "ils_one_hot", [&] {
      good = way.run(one_hot ? z.mutable_data_ptr<scalar_t>() : nullptr);
    });
  });
  TORCH_CHECK(good, "logits: expected numbers or -inf, and a category to draw in every row");
  return {std::move(z), std::move(at), std::move(probs)};
}

// --- the gradients --------------------------------------------------------------------

// Long rows are cut into pieces of this length, whatever the number of threads.
constexpr int64_t piece = 16384;

// For each row: a summary of its pieces by first(row, begin, end), merged in order, completed by
// middle(row, summary), and used by second(row, begin, end, summary).
template <class S, class First, class Middle, class Second>
void two_passes(int64_t rows, int64_t size, First first, Middle middle, Second second) {
  if (size <= long_row) {
    at::parallel_for(0, rows, rows_a_thread(size), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        S summary = first(row, 0, size);
        middle(row, summary);
        second(row, 0, size, summary);
      }
    });
    return;
  }
  const int64_t pieces = (size + piece - 1) / piece;
  std::vector<S> parts(rows * pieces), whole(rows);
  auto for_pieces = [&](auto f) {
    at::parallel_for(0, rows * pieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        const int64_t from = part % pieces * piece;
        f(part, part / pieces, from, std::min(size, from + piece));
      }
    });
  };
  for_pieces([&](int64_t part, int64_t row, int64_t from, int64_t to) { parts[part] = first(row, from, to); });
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t part = 0; part < pieces; ++part) whole[row].merge(parts[row * pieces + part]);
    middle(row, whole[row]);
  }
  for_pieces([&](int64_t, int64_t row, int64_t from, int64_t to) { second(row, from, to, whole[row]); });
}

// Sum of what is gained, and the largest change; both NaN if there is NaN.
struct Gain {
  double sum = 0, most = 0;
  double factor = 0;
  void merge(const Gain& other) {
    sum += other.sum;
    most = std::max(most, other.most);
  }
};

// pi_k (g_k - g_i) / 2, and minus their sum for the drawn category i.
template <class T>
void fisher_limit_rows(const T* grad, const int64_t* at, const T* probs, T* update, int64_t rows,
                       int64_t laws, int64_t size) {
  two_passes<Gain>(
      rows, size,
      [&](int64_t row, int64_t begin, int64_t end) {
        const T* g = grad + row * size + begin;
        const T* p = probs + row % laws * size + begin;
        T* u = update + row * size + begin;
        const T drawn = grad[row * size + at[row]];
        Sum<T> sum;
        each_vector<T>(end - begin, [&](int64_t k, auto n) {
          const Vec<T> law = load_n(p + k, n);
          const Vec<T> moved = (load_n(g + k, n) - drawn) * (T)0.5 * law;
          // A gradient that is not finite must not reach a category that cannot be drawn.
          const Vec<T> v = law == Vec<T>{} ? Vec<T>{} : moved;
          sum.add(v);
          store_n(u + k, v, n);
        });
        return Gain{sum.total()};
      },
      [&](int64_t row, Gain& gain) { update[row * size + at[row]] = (T)-gain.sum; },
      [](int64_t, int64_t, int64_t, const Gain&) {});
}

struct Options {
  double step;
  bool fisher, relative, centred;
};

// The target is in proportion to 1 for the draw, and to alpha (-Delta_k)_+ elsewhere.
template <bool fisher, class T>
void sum_normalized_rows(const T* grad, const int64_t* at, const T* probs, const bool* mask, T* update,
                         int64_t rows, int64_t laws, int64_t masks, int64_t size, Options options) {
  auto gain_of = [&](int64_t row, int64_t k, auto n) {
    const T drawn = grad[row * size + at[row]];
    Vec<T> gain = drawn - load_n(grad + row * size + k, n);
    if constexpr (fisher) {
      const Vec<T> law = load_n(probs + row % laws * size + k, n);
      gain = law == Vec<T>{} ? Vec<T>{} : gain * law;
    } else {
      // Past the end, where the gradient was read as zero.
      if constexpr (std::is_same_v<decltype(n), int64_t>) gain = before<T>(n) ? gain : Vec<T>{};
      if (mask) gain = load_mask<T>(mask + row % masks * size + k, n) ? Vec<T>{} : gain;
    }
    return gain;
  };
  two_passes<Gain>(
      rows, size,
      [&](int64_t row, int64_t begin, int64_t end) {
        Sum<T> sum;
        Vec<T> most{};
        each_vector<T>(end - begin, [&](int64_t k, auto n) {
          const Vec<T> gain = gain_of(row, begin + k, n);
          const Vec<T> size_of_gain = gain < Vec<T>{} ? -gain : gain;
          most = size_of_gain > most ? size_of_gain : most;
          sum.add(gain < Vec<T>{} ? Vec<T>{} : gain);  // NaN is not below zero, and stays
        });
        return Gain{sum.total(), largest<T>(most)};
      },
      [&](int64_t row, Gain& gain) {
        double step = options.step, sum = gain.sum;
        if (options.relative) {
          // With an infinite change there is no unit.
          if (std::isinf(gain.most)) sum = std::numeric_limits<double>::quiet_NaN();
          if (gain.most > 0) step /= gain.most;
        }
        const double share = -1 / (1 + step * sum);  // minus the target at the draw
        gain.factor = share * (options.relative ? 1 : options.step);
        gain.sum = options.centred ? -sum * gain.factor : share;
      },
      [&](int64_t row, int64_t begin, int64_t end, const Gain& gain) {
        const T factor = (T)gain.factor;
        T* u = update + row * size;
        each_vector<T>(end - begin, [&](int64_t j, auto n) {
          const int64_t k = begin + j;
          Vec<T> v = gain_of(row, k, n);
          v = v < Vec<T>{} ? Vec<T>{} : v;
          // Zero stays zero, also where the rest of the row is NaN.
          v = v == Vec<T>{} ? v : v * factor;
          if (!options.centred) v += load_n(probs + row % laws * size + k, n);
          store_n(u + k, v, n);
        });
        const int64_t i = at[row];
        if (begin <= i && i < end) u[i] = (T)(options.centred ? gain.sum : u[i] + gain.sum);
      });
}

// The threshold of entries with sum (x - tau)_+ = 1, by Michelot's passes from a lower bound; the
// list is used up.
template <class T>
double threshold_of(std::vector<T>& list) {
  double sum = 0;
  for (T x : list) sum += x;
  double tau = (sum - 1) / list.size();
  for (;;) {
    size_t kept = 0;
    double kept_sum = 0;
    for (T x : list) {
      list[kept] = x;
      kept_sum += x > tau ? x : 0;
      kept += x > tau;
    }
    if (kept == list.size() || kept == 0) return tau;
    list.resize(kept);
    tau = (kept_sum - 1) / kept;
  }
}

// The note's step and the Euclidean projection.
template <class T>
struct Projection {
  const T* grad;
  const int64_t* at;
  const T* probs;
  const bool* mask;
  T* update;
  int64_t rows, laws, masks, size;
  T step;
  bool centred;

  static constexpr int width = Lanes<T>::width;
  static constexpr int64_t chunk = 16 * width;

  // The stepped draw into the place of the update, and the maxima of its chunks lane by lane:
  // each is the largest of a few entries.  True if there is NaN.
  bool step_piece(int64_t row, int64_t begin, int64_t end, T* tops) const {
    const T* g = grad + row * size;
    T* u = update + row * size;
    const T lowest = -std::numeric_limits<T>::infinity();
    each_vector<T>(end - begin, [&](int64_t j, auto n) {
      const int64_t k = begin + j;
      Vec<T> v = load_n(g + k, n) * -step;
      if (mask) v = load_mask<T>(mask + row % masks * size + k, n) ? all<T>(lowest) : v;
      store_n(u + k, v, n);
    });
    const int64_t i = at[row];
    if (begin <= i && i < end) u[i] += 1;
    Mask<T> nan{};
    for (int64_t from = begin; from < end; from += chunk) {
      Vec<T> top = all<T>(lowest);
      each_vector<T>(std::min(chunk, end - from), [&](int64_t j, auto n) {
        const Vec<T> v = load_or(u + from + j, n, lowest);
        top = v > top ? v : top;
        nan |= v != v;
      });
      store(tops + from / chunk * width, top);
    }
    return any<T>(nan);
  }

  // The threshold, given the maxima: that of the maxima is a lower bound, and only what is above
  // it can belong to the support.
  T threshold(int64_t row, const T* tops, int64_t chunks, bool nan, std::vector<T>& list) const {
    const T top = top_of(tops, chunks * width);
    if (nan || !std::isfinite(top)) return std::numeric_limits<T>::quiet_NaN();
    list.clear();
    for (int64_t j = 0; j < chunks * width; ++j) {
      if (tops[j] - top > -1) list.push_back(tops[j] - top);
    }
    const double bound = threshold_of(list);
    list.clear();
    const T* u = update + row * size;
    for (int64_t j = 0; j < chunks; ++j) {
      if (!(top_of(tops + j * width, width) - top > bound)) continue;
      for (int64_t k = j * chunk; k < std::min(size, (j + 1) * chunk); ++k) {
        if (u[k] - top > bound) list.push_back(u[k] - top);
      }
    }
    return (T)(top + threshold_of(list));
  }

  // minus (x - tau)_+, plus the draw or the law.
  void finish(int64_t row, int64_t begin, int64_t end, T tau) const {
    T* u = update + row * size;
    const T lowest = -std::numeric_limits<T>::infinity();
    each_vector<T>(end - begin, [&](int64_t j, auto n) {
      const int64_t k = begin + j;
      const Vec<T> x = load_n(u + k, n);
      Vec<T> v = tau - x;
      v = v > Vec<T>{} ? Vec<T>{} : v;
      v = x == all<T>(lowest) ? Vec<T>{} : v;
      if (!centred) v += load_n(probs + row % laws * size + k, n);
      store_n(u + k, v, n);
    });
    const int64_t i = at[row];
    if (begin <= i && i < end) {
      if (centred) u[i] += 1;
      if (std::isnan(tau)) u[i] = tau;  // also where all of the row is -inf
    }
  }

  void run() const {
    const int64_t chunks = (size + chunk - 1) / chunk;
    if (size <= long_row) {
      at::parallel_for(0, rows, rows_a_thread(size), [&](int64_t begin, int64_t end) {
        std::vector<T> tops(chunks * width), list;
        list.reserve(size);
        for (int64_t row = begin; row < end; ++row) {
          const bool nan = step_piece(row, 0, size, tops.data());
          finish(row, 0, size, threshold(row, tops.data(), chunks, nan, list));
        }
      });
      return;
    }
    static_assert(piece % chunk == 0);
    const int64_t pieces = (size + piece - 1) / piece;
    std::vector<T> tops(rows * chunks * width), taus(rows);
    std::vector<char> nans(rows * pieces);
    auto for_pieces = [&](auto f) {
      at::parallel_for(0, rows * pieces, 1, [&](int64_t begin, int64_t end) {
        for (int64_t part = begin; part < end; ++part) {
          const int64_t from = part % pieces * piece;
          f(part, part / pieces, from, std::min(size, from + piece));
        }
      });
    };
    for_pieces([&](int64_t part, int64_t row, int64_t from, int64_t to) {
      nans[part] = step_piece(row, from, to, tops.data() + row * chunks * width);
    });
    at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
      std::vector<T> list;
      for (int64_t row = begin; row < end; ++row) {
        const char* first = nans.data() + row * pieces;
        const bool nan = std::any_of(first, first + pieces, [](char c) { return c; });
        taus[row] = threshold(row, tops.data() + row * chunks * width, chunks, nan, list);
      }
    });
    for_pieces([&](int64_t, int64_t row, int64_t from, int64_t to) { finish(row, from, to, taus[row]); });
  }
};

// What the gradients have in common: contiguous inputs in the type of the work, and their sizes.
// Leading axes that the law or the mask lacks are those of the draws.
struct Inputs {
  Tensor grad, at, probs, mask, update;
  int64_t rows, size, laws, masks;

  Inputs(const Tensor& g, const Tensor& index, const std::optional<Tensor>& law,
         const std::optional<Tensor>& masked) {
    TORCH_CHECK(g.dim() > 0 && g.size(-1) > 0 && g.is_floating_point(), "grad: expected categories");
    grad = ready(g, work_type(g));
    at = ready(index, index.scalar_type());
    size = g.size(-1);
    rows = g.numel() / size;
    TORCH_CHECK(at.scalar_type() == at::kLong && at.numel() == rows, "at: expected an index a row");
    const int64_t* index_of = at.const_data_ptr<int64_t>();
    TORCH_CHECK(std::all_of(index_of, index_of + rows, [&](int64_t i) { return 0 <= i && i < size; }),
                "at: expected indices of categories");
    laws = masks = 1;
    if (law) {
      probs = ready(*law, grad.scalar_type());
      laws = rows_of(probs, "probs");
    }
    if (masked) {
      mask = ready(*masked, masked->scalar_type());
      TORCH_CHECK(mask.scalar_type() == at::kBool, "mask: expected booleans");
      masks = rows_of(mask, "mask");
    }
    update = at::empty(g.sizes(), grad.options());
  }

  int64_t rows_of(const Tensor& other, const char* name) const {
    const int64_t axes = other.dim();
    TORCH_CHECK(axes <= grad.dim() && other.sizes() == grad.sizes().slice(grad.dim() - axes), name,
                ": expected the last axes of the gradient");
    return std::max<int64_t>(1, other.numel() / size);
  }

  template <class T>
  const T* law() const {
    return probs.defined() ? probs.const_data_ptr<T>() : nullptr;
  }
  const bool* masked() const { return mask.defined() ? mask.const_data_ptr<bool>() : nullptr; }
};

Tensor fisher_limit(const Tensor& grad, const Tensor& at, const Tensor& probs) {
  const Inputs in(grad, at, probs, std::nullopt);
  AT_DISPATCH_FLOATING_TYPES(in.grad.scalar_type(), "ils_fisher_limit", [&] {
    fisher_limit_rows(in.grad.const_data_ptr<scalar_t>(), in.at.const_data_ptr<int64_t>(),
                      in.law<scalar_t>(), in.update.mutable_data_ptr<scalar_t>(), in.rows, in.laws,
                      in.size);
  });
  return in.update;
}

Tensor sum_normalized(const Tensor& grad, const Tensor& at, const std::optional<Tensor>& probs,
                      const std::optional<Tensor>& mask, double step, bool fisher, bool relative,
                      bool centred) {
  TORCH_CHECK(probs || (centred && !fisher), "probs: expected a tensor");
  const Inputs in(grad, at, probs, mask);
  AT_DISPATCH_FLOATING_TYPES(in.grad.scalar_type(), "ils_sum_normalized", [&] {
    auto rows = fisher ? sum_normalized_rows<true, scalar_t> : sum_normalized_rows<false, scalar_t>;
    rows(in.grad.const_data_ptr<scalar_t>(), in.at.const_data_ptr<int64_t>(), in.law<scalar_t>(),
         in.masked(), in.update.mutable_data_ptr<scalar_t>(), in.rows, in.laws, in.masks, in.size,
         Options{step, fisher, relative, centred});
  });
  return in.update;
}

Tensor projected(const Tensor& grad, const Tensor& at, const std::optional<Tensor>& probs,
                 const std::optional<Tensor>& mask, double step, bool centred) {
  TORCH_CHECK(probs || centred, "probs: expected a tensor");
  const Inputs in(grad, at, probs, mask);
  AT_DISPATCH_FLOATING_TYPES(in.grad.scalar_type(), "ils_projected", [&] {
    Projection<scalar_t>{in.grad.const_data_ptr<scalar_t>(), in.at.const_data_ptr<int64_t>(),
                         in.law<scalar_t>(), in.masked(), in.update.mutable_data_ptr<scalar_t>(),
                         in.rows, in.laws, in.masks, in.size, (scalar_t)step, centred}
        .run();
  });
  return in.update;
}

// --- the draw with its gradient --------------------------------------------------------

enum Kind : int64_t { by_fisher_limit = 0, by_sum = 1, by_projection = 2 };

// The identity, which refuses to be differentiated.
struct Refused : torch::autograd::Function<Refused> {
  static Tensor forward(torch::autograd::AutogradContext*, const Tensor& update, const Tensor&,
                        const Tensor&) {
    return update.clone();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list) {
    TORCH_CHECK(false,
                "ils: expected to be differentiated once; the gradient of a draw is an estimate, and "
                "the derivative of no function");
  }
};

struct Sample : torch::autograd::Function<Sample> {
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& logits,
                        const Tensor& uniform, at::IntArrayRef draws, int64_t kind, double step,
                        bool fisher, bool relative, bool centred) {
    at::AutoDispatchBelowAutograd below;
    const bool by_law = fisher || !centred || kind == by_fisher_limit;
    auto [z, at, probs] = draw(logits, uniform, by_law, true, draws);
    Tensor mask;
    if ((!fisher || kind == by_projection) && kind != by_fisher_limit && logits.numel() > 0) {
      if (std::isinf(logits.min().item<double>())) mask = logits.isneginf();
    }
    if (by_law && logits.scalar_type() == at::kBFloat16) probs = probs.to(at::kBFloat16);
    ctx->save_for_backward({at, by_law ? probs : Tensor(), mask});
    if (kind != by_fisher_limit) ctx->saved_data["step"] = step;
    ctx->saved_data["rule"] = (int64_t)(kind + 4 * fisher + 8 * relative + 16 * centred + 32 * draws.size());
    return z;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &at = saved[0], &grad = grads[0];
    auto given = [](const Tensor& t) { return t.defined() ? std::optional<Tensor>(t) : std::nullopt; };
    const int64_t rule = ctx->saved_data["rule"].toInt(), kind = rule % 4, draws = rule / 32;
    const double step = kind == by_fisher_limit ? 0 : ctx->saved_data["step"].toDouble();
    const bool fisher = rule & 4, relative = rule & 8, centred = rule & 16;
    Tensor update;
    {
      at::AutoDispatchBelowAutograd below;
      if (kind == by_fisher_limit) {
        update = fisher_limit(grad, at, saved[1]);
      } else if (kind == by_sum) {
        update = sum_normalized(grad, at, given(saved[1]), given(saved[2]), step, fisher, relative,
                                centred);
      } else {
        update = projected(grad, at, given(saved[1]), given(saved[2]), step, centred);
      }
      if (draws > 0) {
        std::vector<int64_t> axes(draws);
        std::iota(axes.begin(), axes.end(), 0);
        update = update.sum(axes);
      }
      if (update.scalar_type() != grad.scalar_type()) update = update.to(grad.scalar_type());
    }
    if (at::GradMode::is_enabled()) {
      // Of the graph of the logits: a second derivative then finds its way to the refusal.
      const Tensor anchor = at::empty({0}, update.options());
      torch::autograd::impl::set_gradient_edge(
          anchor, torch::autograd::get_current_node()->next_edge(0));
      update = Refused::apply(update, grad, anchor);
    }
    torch::autograd::variable_list result(8);
    result[0] = update;
    return result;
  }
};

Tensor sample(const Tensor& logits, const Tensor& uniform, at::IntArrayRef draws, int64_t kind,
              double step, bool fisher, bool relative, bool centred) {
  if (logits.requires_grad() && at::GradMode::is_enabled()) {
    return Sample::apply(logits, uniform, draws, kind, step, fisher, relative, centred);
  }
  at::AutoDispatchBelowAutograd below;
  return std::get<0>(draw(logits, uniform, false, true, draws));
}

}  // namespace

TORCH_LIBRARY(ils, m) {
  m.def(
      "draw(Tensor logits, Tensor uniform, bool keep_probs, bool one_hot, int[] draws) -> "
      "(Tensor, Tensor, Tensor)");
  m.def("fisher_limit(Tensor grad, Tensor at, Tensor probs) -> Tensor");
  m.def(
      "sum_normalized(Tensor grad, Tensor at, Tensor? probs, Tensor? mask, float step, bool fisher, "
      "bool relative, bool centred) -> Tensor");
  m.def(
      "projected(Tensor grad, Tensor at, Tensor? probs, Tensor? mask, float step, bool centred) -> "
      "Tensor");
  m.def(
      "sample(Tensor logits, Tensor uniform, int[] draws, int kind, float step, bool fisher, "
      "bool relative, bool centred) -> Tensor");
}

TORCH_LIBRARY_IMPL(ils, CPU, m) {
  m.impl("draw", draw);
  m.impl("fisher_limit", fisher_limit);
  m.impl("sum_normalized", sum_normalized);
  m.impl("projected", projected);
}

TORCH_LIBRARY_IMPL(ils, CompositeImplicitAutograd, m) { m.impl("sample", sample); }
