// The draw and the gradients of ils.sample in few passes over memory, for CPUs.
//
// What each function computes is stated where the package computes it without these files: the draw
// in ils/draw.py, the gradients in ils/fast.py.  Built by `python -m ils.kernel`.  In turn:
// vectors.h, draw.h, gradients.h; here, the draw with its gradient, and what Python sees.
//
// Compiled without -ffast-math: minus infinity masks a category, and NaN must stay NaN.
// Results do not depend on the number of threads: every sum has one order.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cmath>
#include <cstdint>
#include <numeric>
#include <optional>
#include <tuple>
#include <vector>

#include "draw.h"
#include "gradients.h"

namespace {

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
