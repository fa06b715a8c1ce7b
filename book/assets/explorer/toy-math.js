// The note's toy, one problem at a time, and where each method comes to rest on it: pure functions.
//
// A problem is a target `p`; `eps` is the guard inside the logarithm and `size` the note's N K, by
// which it divides the loss. As in math.js, names and meanings are those of the package.

(function (explorer) {
  "use strict";

  const math = explorer.math;

  const gradient = (p, z, eps, size) => p.map((value, k) => -value / (size * (z[k] + eps)));

  // The note's curve for one problem: KL_eps(p || probs) / K, in nats a component.
  const divergence = (p, probs, eps) =>
    p.reduce((t, value, k) => t + value * Math.log((value + eps) / (probs[k] + eps)), 0) / p.length;

  function inverseCdf(probs, uniform) {
    const limit = uniform * math.sum(probs);
    let total = 0;
    let last = 0;
    for (let k = 0; k < probs.length; k += 1) {
      total += probs[k];
      if (probs[k] > 0) last = k;
      if (total > limit) return k;
    }
    return last;
  }

  // One estimate. method: name, and stepSize, form, gradient (ILS) or temperature (Gumbel-Softmax).
  // noise: a uniform number, or Gumbel numbers for Gumbel-Softmax.
  function estimate(method, p, logits, noise, eps, size) {
    if (method.name === "Gumbel-Softmax") {
      const gradientAt = (y) => gradient(p, y, eps, size);
      return math.gumbelSoftmax(logits, noise, method.temperature, gradientAt);
    }
    const probs = math.softmax(logits);
    const at = inverseCdf(probs, noise);
    const grad = gradient(p, math.oneHot(at, p.length), eps, size);
    if (method.name === "straight-through") return math.straightThrough(probs, grad);
    if (method.name === "ReinMax") return math.reinmax(probs, grad, at);
    const target = math.intermediateTarget(at, grad, probs, method, method.stepSize);
    return math.gradients[method.gradient](target, probs, at);
  }

  const step = (logits, update, rate) => logits.map((value, k) => value - rate * update[k]);

  // --- where a method comes to rest -----------------------------------------------------------

  function sumNormalizeLimit(p, stepSize, eps, size) {
    const c = stepSize / (eps * size);
    const weights = p.map((value) => value * (1 + c * (1 - value)));
    return math.scale(weights, 1 / math.sum(weights));
  }

  // Straight-through: max(0, 1 - lambda / p) with the sum 1.
  function straightThroughLimit(p) {
    const ordered = [...p].sort((a, b) => b - a);
    let inverse = 0;
    let level = 0;
    ordered.forEach((value, k) => {
      inverse += 1 / value;
      if (value > k / inverse) level = k / inverse;
    });
    return p.map((value) => Math.max(0, 1 - level / value));
  }

  // ReinMax, and whatever has no bias: the corner at the likeliest category.
  const ascentLimit = (p) => math.oneHot(p.indexOf(Math.max(...p)), p.length);

  // The rows of the Markov chain of ILS: the target after a draw of each category.
  const transition = (method, p, eps, size) =>
    p.map((_, at) => {
      const grad = gradient(p, math.oneHot(at, p.length), eps, size);
      return math.intermediateTarget(at, grad, p, method, method.stepSize);
    });

  // Gaussian elimination with the largest pivot; changes its arguments.
  function solve(matrix, right) {
    const size = right.length;
    for (let column = 0; column < size; column += 1) {
      let pivot = column;
      for (let row = column + 1; row < size; row += 1) {
        if (Math.abs(matrix[row][column]) > Math.abs(matrix[pivot][column])) pivot = row;
      }
      [matrix[column], matrix[pivot]] = [matrix[pivot], matrix[column]];
      [right[column], right[pivot]] = [right[pivot], right[column]];
      for (let row = column + 1; row < size; row += 1) {
        const factor = matrix[row][column] / matrix[column][column];
        for (let k = column; k < size; k += 1) matrix[row][k] -= factor * matrix[column][k];
        right[row] -= factor * right[column];
      }
    }
    const solution = new Array(size).fill(0);
    for (let row = size - 1; row >= 0; row -= 1) {
      let rest = right[row];
      for (let k = row + 1; k < size; k += 1) rest -= matrix[row][k] * solution[k];
      solution[row] = rest / matrix[row][row];
    }
    return solution;
  }

  // The distribution with pi T = pi: the last of these equations is replaced by sum(pi) = 1.
  function stationary(matrix) {
    const size = matrix.length;
    const system = matrix.map((_, row) =>
      matrix.map((_, k) => (row === size - 1 ? 1 : matrix[k][row] - (k === row ? 1 : 0))),
    );
    return solve(system, math.oneHot(size - 1, size));
  }

  // Gumbel-Softmax: minimises E_G[-sum p log(y + eps)] over a fixed set of noise, by Newton's method
  // with a multiple of the identity that grows where a step fails.
  function gumbelLimit(p, temperature, eps, noise, iterations = 200, tolerance = 1e-8) {
    const size = p.length;
    const evaluate = (theta) => {
      const y = noise.map((numbers) => math.relaxedSample(theta, numbers, temperature));
      const value = y.reduce((t, row) => t - math.dot(p, row.map((q) => Math.log(q + eps))), 0);
      return { theta, y, value: value / noise.length };
    };
    let best = evaluate(p.map(Math.log));
    let damping = 1e-3;
    for (let iteration = 0; iteration < iterations; iteration += 1) {
      const slope = new Array(size).fill(0);
      const curvature = slope.map(() => new Array(size).fill(0));
      for (const row of best.y) {
        const grad = p.map((value, k) => -value / (row[k] + eps));
        math.softmaxVjp(row, grad).forEach((value, k) => {
          slope[k] += value / temperature / noise.length;
          for (let j = 0; j < size; j += 1) {
            const entry = row[k] * ((j === k ? 1 : 0) - row[j]);
            curvature[k][j] += entry / temperature ** 2 / noise.length;
          }
        });
      }
      if (slope.every((value) => Math.abs(value) < tolerance)) break;
      const damped = curvature.map((row, k) =>
        row.map((value, j) => value + (j === k ? damping : 0)),
      );
      const trial = evaluate(math.subtract(best.theta, solve(damped, slope)));
      const better = trial.value <= best.value;
      if (better) best = trial;
      damping = Math.min(Math.max(better ? damping / 3 : damping * 4, 1e-12), 1e6);
    }
    return math.softmax(best.theta);
  }

  explorer.toyMath = Object.freeze({
    gradient, divergence, inverseCdf, estimate, step, sumNormalizeLimit, straightThroughLimit,
    ascentLimit, transition, stationary, gumbelLimit,
  });
})((globalThis.ilsExplorer ??= {}));
