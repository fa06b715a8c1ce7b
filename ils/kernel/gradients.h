// The gradients of ils/fast.py, each in one or two passes over memory.

#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "draw.h"

namespace {

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

}  // namespace
