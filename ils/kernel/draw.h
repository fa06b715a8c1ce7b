// The draw: what ils/draw.py computes, in few passes over memory.

#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include "vectors.h"

namespace {

using at::Tensor;

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

}  // namespace
