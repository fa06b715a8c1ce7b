// The package's formulas for one variable, as pure functions of arrays: no page, no randomness.
//
// Each has the name and the meaning of its namesake in `ils`; tests/book/test_explorer.py holds them
// to it. `at` is the index of the drawn category, which is cheaper to hand about than a one-hot z.

(function (explorer) {
  "use strict";

  // --- vectors ------------------------------------------------------------------------------

  const sum = (x) => x.reduce((total, value) => total + value, 0);
  const dot = (x, y) => x.reduce((total, value, k) => total + value * y[k], 0);
  const subtract = (x, y) => x.map((value, k) => value - y[k]);
  const scale = (x, factor) => x.map((value) => value * factor);
  const norm = (x) => Math.sqrt(dot(x, x));
  const oneHot = (at, categories) =>
    Array.from({ length: categories }, (_, k) => (k === at ? 1 : 0));

  function softmax(logits) {
    const top = Math.max(...logits);
    const weights = logits.map((value) => Math.exp(value - top));
    return scale(weights, 1 / sum(weights));
  }

  // Jacobian of softmax times a gradient.
  function softmaxVjp(probs, grad) {
    const mean = dot(probs, grad);
    return probs.map((p, k) => p * (grad[k] - mean));
  }

  // --- normalisers: a map h onto the simplex, and its transposed Jacobian at a draw -----------

  const relativeToDraw = (at, grad) => grad.map((g) => g - grad[at]);

  function relativeToMean(at, grad) {
    const mean = sum(grad) / grad.length;
    return grad.map((g) => g - mean);
  }

  function clampAndNormalize(x) {
    const positive = x.map((value) => Math.max(value, 0));
    return scale(positive, 1 / sum(positive));
  }

  const normalize = (x) => scale(x, 1 / sum(x));

  // The nearest distribution: max(x - tau, 0), with tau by sorting.
  function project(x) {
    const ordered = [...x].sort((a, b) => b - a);
    let total = 0;
    let threshold = 0;
    ordered.forEach((value, k) => {
      total += value;
      const candidate = (total - 1) / (k + 1);
      if (value > candidate) threshold = candidate;
    });
    return x.map((value) => Math.max(value - threshold, 0));
  }

  const normalizers = {
    sum_normalize: { h: clampAndNormalize, pullback: relativeToDraw },
    sum_normalize_unclamped: { h: normalize, pullback: relativeToDraw },
    project_simplex: { h: project, pullback: relativeToMean },
  };

  const metrics = {
    euclidean: (delta, probs) => delta,
    fisher: (delta, probs) => delta.map((value, k) => value * probs[k]),
  };

  // --- the target of a draw -----------------------------------------------------------------

  // options: normalizer, metric, keepMass.
  function direction(at, grad, probs, options) {
    const pulled = normalizers[options.normalizer].pullback(at, grad);
    const delta = metrics[options.metric](pulled, probs);
    if (!options.keepMass) return delta;
    const total = sum(delta);
    return delta.map((value, k) => (k === at ? value - total : value));
  }

  function intermediateTarget(at, grad, probs, options, stepSize) {
    const delta = direction(at, grad, probs, options);
    const stepped = subtract(oneHot(at, grad.length), scale(delta, stepSize));
    return normalizers[options.normalizer].h(stepped);
  }

  // The three gradients of KL(pi_D || pi), to be passed in place of one another.
  const gradients = {
    logits: (target, probs, at) => {
      const total = sum(target);
      return target.map((value, k) => probs[k] * total - value);
    },
    centred: (target, probs, at) => subtract(oneHot(at, target.length), target),
    probs: (target, probs, at) => target.map((value, k) => -value / (probs[k] + 1e-7)),
  };

  // --- ils.sample: the gradient that a draw hands back ----------------------------------------

  // The step in the units of the gradient: alpha, or alpha over the largest entry of Delta.
  function stepOf(rule, grad, at, probs) {
    if (!rule.relative) return rule.stepSize;
    const largest = Math.max(...direction(at, grad, probs, rule).map(Math.abs));
    return 1 / Math.max(largest / rule.stepSize, 2 ** -1022);
  }

  // The target of ils.sample; null at the limit of small steps, where there is none.
  function sampleTarget(rule, grad, at, probs) {
    if (rule.stepSize === null) return null;
    return intermediateTarget(at, grad, probs, rule, stepOf(rule, grad, at, probs));
  }

  // The defaults of ils.sample.
  const DEFAULT = Object.freeze({
    stepSize: null, metric: "fisher", normalizer: "sum_normalize", centred: true, relative: true,
    keepMass: false,
  });

  // rule: stepSize (null for half the limit of small steps), metric, normalizer, centred, relative,
  // keepMass.
  function sampleGradient(rule, grad, at, probs) {
    if (rule.stepSize === null) {
      return scale(direction(at, grad, probs, { ...rule, keepMass: true }), 0.5);
    }
    const step = stepOf(rule, grad, at, probs);
    const target = intermediateTarget(at, grad, probs, rule, step);
    if (!rule.centred) return gradients.logits(target, probs, at);
    const update = target.map((value) => -value);
    // 1 - pi_D would lose the digits of a small step: the draw loses what the others gain.
    update[at] = target.reduce((total, value, k) => (k === at ? total : total + value), 0);
    return rule.relative ? scale(update, 1 / step) : update;
  }

  // --- the peers ------------------------------------------------------------------------------

  const straightThrough = (probs, grad) => softmaxVjp(probs, grad);

  function reinmax(probs, grad, at) {
    const middle = probs.map((p, k) => (p + (k === at ? 1 : 0)) / 2);
    return subtract(scale(softmaxVjp(middle, grad), 2), scale(softmaxVjp(probs, grad), 0.5));
  }

  const relaxedSample = (logits, noise, temperature) =>
    softmax(logits.map((value, k) => (value + noise[k]) / temperature));

  // gradientAt: the gradient of the loss as a function of the point.
  function gumbelSoftmax(logits, noise, temperature, gradientAt) {
    const y = relaxedSample(logits, noise, temperature);
    return scale(softmaxVjp(y, gradientAt(y)), 1 / temperature);
  }

  // --- moments ----------------------------------------------------------------------------------

  // The exact gradient of E[L(z)], from the values of the loss at the corners.
  const exactGradient = (probs, values) => softmaxVjp(probs, values);

  // Mean, and trace of the covariance, of estimates that have the given weights.
  function moments(weights, estimates) {
    const mean = estimates[0].map((_, k) => dot(weights, estimates.map((row) => row[k])));
    const squares = estimates.map((row) => norm(subtract(row, mean)) ** 2);
    return { mean, variance: dot(weights, squares) };
  }

  // --- a loss that can be curved without changing at the corners ----------------------------------

  // L(q) = <w, q> + curvature (|q|^2 - 1) / 2: every corner has |q| = 1.
  const loss = (weights, curvature, q) => dot(weights, q) + (curvature * (dot(q, q) - 1)) / 2;
  const lossGradient = (weights, curvature, q) => weights.map((w, k) => w + curvature * q[k]);

  explorer.math = Object.freeze({
    DEFAULT, sum, dot, subtract, scale, norm, oneHot, softmax, softmaxVjp, normalizers, metrics, direction,
    intermediateTarget, gradients, sampleTarget, sampleGradient, straightThrough, reinmax,
    relaxedSample, gumbelSoftmax, exactGradient, moments, loss, lossGradient,
  });
})((globalThis.ilsExplorer ??= {}));
