// The simplex explorer: three categories as a triangle. Only the page; the formulas are in math.js.

(function (explorer) {
  "use strict";

  const { math, random, ui } = explorer;
  const { element, drawn, format, put } = ui;

  const HEIGHT = Math.sqrt(3) / 2;
  const DIAL = { x: 1.13, y: 0.72, radius: 0.2 };
  const MOST = 2; // the largest size of the gradient
  const LEAST = 0.005; // the smallest probability: the logits stay finite
  const NOISE = random.gumbelPoints(2048, 3);
  const MARKS = ["circle", "square", "triangle"];

  const PRESETS = {
    "ReinMax (default)": math.DEFAULT,
    "ILS (the note)": {
      stepSize: 0.5, metric: "euclidean", normalizer: "sum_normalize", centred: false,
      relative: false, keepMass: false,
    },
    "ILS, projected": {
      stepSize: 0.5, metric: "euclidean", normalizer: "project_simplex", centred: true,
      relative: false, keepMass: false,
    },
    "ILS, Fisher": {
      stepSize: 0.5, metric: "fisher", normalizer: "sum_normalize", centred: true,
      relative: false, keepMass: true,
    },
  };

  // --- geometry: category 1 at the left, 2 at the right, 3 on top; y grows upwards -----------------

  const pointOf = (q) => [q[1] + q[2] / 2, HEIGHT * q[2]];

  function weightsOf([x, y]) {
    const third = y / HEIGHT;
    const second = x - third / 2;
    return [1 - second - third, second, third];
  }

  // A direction in the plane as a change of the three weights.
  const changeOf = (x, y) => math.subtract(weightsOf([x, y]), weightsOf([0, 0]));

  // The nearest distribution in which no category is lost.
  const inside = (q) =>
    math.normalizers.project_simplex
      .h(q.map((value) => (value - LEAST) / (1 - 3 * LEAST)))
      .map((value) => LEAST + (1 - 3 * LEAST) * value);

  // --- what is computed -----------------------------------------------------------------------------

  function compute(state) {
    const { probs, rule } = state;
    const logits = probs.map(Math.log);
    const radians = (state.angle * Math.PI) / 180;
    const weights = changeOf(-state.size * Math.cos(radians), -state.size * Math.sin(radians));
    const curvature = state.curved ? state.curvature : 0;
    const gradientAt = (q) => math.lossGradient(weights, curvature, q);
    const atCorner = probs.map((_, at) => gradientAt(math.oneHot(at, 3)));
    const exact = math.exactGradient(probs, weights);
    const perStep = rule.relative || rule.stepSize === null ? 1 : 1 / rule.stepSize;
    const targets = atCorner.map((g, at) => math.sampleTarget(rule, g, at, probs));
    const updates = atCorner.map((g, at) => math.scale(math.sampleGradient(rule, g, at, probs), perStep));
    const equally = NOISE.map(() => 1 / NOISE.length);
    const relaxed = NOISE.map((n) => math.gumbelSoftmax(logits, n, state.temperature, gradientAt));
    const found = {
      ils: math.moments(probs, updates),
      through: math.moments(probs, atCorner.map((g) => math.straightThrough(probs, g))),
      gumbel: math.moments(equally, relaxed),
      reinmax: math.moments(probs, atCorner.map((g, at) => math.reinmax(probs, g, at))),
    };
    const length = math.norm(exact);
    for (const method of Object.values(found)) {
      method.bias = math.subtract(method.mean, exact);
      method.share = length > 0 ? math.norm(method.bias) / length : NaN;
      method.noise = length > 0 ? Math.sqrt(Math.max(method.variance, 0)) / length : NaN;
      const lengths = length * math.norm(method.mean);
      method.cosine = lengths > 0 ? math.dot(method.mean, exact) / lengths : NaN;
    }
    return { weights, exact, targets, updates, found };
  }

  const outside = (q) => q !== null && Math.min(...q) < -1e-9;

  // --- drawing --------------------------------------------------------------------------------------

  const at = ([x, y]) => `${x.toFixed(4)},${(-y).toFixed(4)}`;

  function arrow(from, to, kind) {
    const dx = to[0] - from[0];
    const dy = to[1] - from[1];
    const length = Math.hypot(dx, dy);
    if (length < 0.004) return drawn("g", {});
    const head = Math.min(0.045, length * 0.6);
    const [ux, uy] = [dx / length, dy / length];
    const base = [to[0] - head * ux, to[1] - head * uy];
    const wing = (side) => [base[0] - side * head * 0.45 * uy, base[1] + side * head * 0.45 * ux];
    return drawn("g", { class: `arrow ${kind}` },
      drawn("path", { d: `M${at(from)}L${at(base)}`, class: "shaft" }),
      drawn("path", { d: `M${at(to)}L${at(wing(1))}L${at(wing(-1))}Z`, class: "head" }));
  }

  function mark(shape, [x, y], radius, kind) {
    const r = radius;
    const shapes = {
      circle: () => drawn("circle", { cx: x, cy: -y, r, class: kind }),
      square: () => drawn("rect", { x: x - r * 0.9, y: -y - r * 0.9, width: 1.8 * r, height: 1.8 * r, class: kind }),
      triangle: () => drawn("path", { d: `M${at([x, y + 1.2 * r])}L${at([x - 1.1 * r, y - 0.8 * r])}L${at([x + 1.1 * r, y - 0.8 * r])}Z`, class: kind }),
      diamond: () => drawn("path", { d: `M${at([x, y + 1.3 * r])}L${at([x + r, y])}L${at([x, y - 1.3 * r])}L${at([x - r, y])}Z`, class: kind }),
    };
    return shapes[shape]();
  }

  const moved = (from, change, factor) => {
    const [x, y] = pointOf(math.scale(change, factor));
    return [from[0] + x, from[1] + y];
  };

  // The thin arrow of the true gradient lies on top: where both agree, both are seen.
  const compared = (from, exact, mean) => [
    arrow(exact, mean, "bias"), arrow(from, mean, "mean"), arrow(from, exact, "exact"),
  ];

  function paintTriangle(layer, state, result) {
    const { exact, targets, updates, found } = result;
    const centre = pointOf(state.probs);
    const longest = Math.max(math.norm(exact), math.norm(found.ils.mean), 1e-9);
    const factor = 0.4 / longest;
    const nodes = [];
    targets.forEach((target, drawnAt) => {
      const corner = pointOf(math.oneHot(drawnAt, 3));
      if (target === null) {
        nodes.push(arrow(corner, moved(corner, updates[drawnAt], -factor), `draw${drawnAt + 1}`));
        return;
      }
      const end = pointOf(target);
      nodes.push(drawn("path", { d: `M${at(corner)}L${at(end)}`, class: `path draw${drawnAt + 1}` }));
    });
    targets.forEach((target, drawnAt) => {
      if (target === null) return;
      nodes.push(mark(MARKS[drawnAt], pointOf(target), 0.024, `target draw${drawnAt + 1}`));
    });
    if (targets.every((target) => target !== null)) {
      const middle = [0, 1, 2].map((k) => math.dot(state.probs, targets.map((t) => t[k])));
      nodes.push(mark("diamond", pointOf(middle), 0.022, "middle"));
    }
    const tip = moved(centre, exact, -factor);
    const mean = moved(centre, found.ils.mean, -factor);
    nodes.push(...compared(centre, tip, mean));
    layer.replaceChildren(...nodes);
  }

  // One method: the exact gradient, its mean and its bias from the middle of a small square.
  function paintCompass(layer, result, method, factor) {
    const centre = [0, 0];
    const tip = moved(centre, result.exact, -factor);
    const mean = moved(centre, method.mean, -factor);
    layer.replaceChildren(...compared(centre, tip, mean));
  }

  // --- handles: pointer, touch and keys --------------------------------------------------------------

  function handle(svg, label, shape, onMove, onKey) {
    const node = drawn("g", {
      class: "handle", tabindex: 0, role: "slider", "aria-label": label,
      "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0,
    }, drawn("circle", { r: 0.1, class: "reach" }), drawn("circle", { r: 0.05, class: "ring" }), shape);
    const place = (event) => {
      const inverse = svg.getScreenCTM().inverse();
      const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(inverse);
      return [x, -y];
    };
    node.addEventListener("pointerdown", (event) => {
      node.setPointerCapture(event.pointerId);
      node.focus();
      event.preventDefault();
    });
    // touch-action alone can come too late for a handle that has just moved.
    node.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    node.addEventListener("pointermove", (event) => {
      if (node.hasPointerCapture(event.pointerId)) onMove(place(event));
    });
    node.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      if (!(event.key in steps) && event.key !== "Home") return;
      event.preventDefault();
      onKey(steps[event.key] ?? null, event.shiftKey ? 5 : 1);
    });
    return { node, place };
  }

  function build(root) {
    const state = {
      probs: [0.3, 0.5, 0.2], angle: 100, size: 1, curved: true, curvature: 1.5, temperature: 1,
      rule: { ...PRESETS["ILS (the note)"] },
    };

    // --- the picture

    const svg = drawn("svg", { viewBox: "-0.16 -1.0 1.54 1.15", class: "stage", role: "group", "aria-label": "Triangle of three categories" });
    const corners = [0, 1, 2].map((k) => pointOf(math.oneHot(k, 3)));
    const outline = drawn("path", { d: `M${corners.map(at).join("L")}Z`, class: "outline" });
    const names = corners.map(([x, y], k) =>
      drawn("text", { x: x + [-0.06, 0.06, 0.07][k], y: -y + [0.06, 0.06, 0][k], class: "corner" }, `${k + 1}`));
    const layer = drawn("g", { "aria-hidden": "true" });
    const dial = drawn("g", { class: "dial", "aria-hidden": "true" },
      drawn("circle", { cx: DIAL.x, cy: -DIAL.y, r: DIAL.radius }),
      drawn("text", { x: DIAL.x, y: -DIAL.y + DIAL.radius + 0.07 }, "the loss falls"));
    const needle = drawn("g", { "aria-hidden": "true" });

    const pi = handle(svg, "Distribution pi: arrow keys move it in the triangle", drawn("circle", { r: 0.026, class: "dot" }),
      (point) => { state.probs = inside(weightsOf(point)); refresh(); },
      (step, factor) => {
        if (step === null) state.probs = [1 / 3, 1 / 3, 1 / 3];
        else {
          const [x, y] = pointOf(state.probs);
          state.probs = inside(weightsOf([x + 0.02 * factor * step[0], y + 0.02 * factor * step[1]]));
        }
        refresh();
      });
    const turn = handle(svg, "Direction in which the loss falls: left and right turn it, up and down scale it",
      drawn("circle", { r: 0.026, class: "dot" }),
      ([x, y]) => {
        const [dx, dy] = [x - DIAL.x, y - DIAL.y];
        state.angle = (Math.round((Math.atan2(dy, dx) * 180) / Math.PI) + 360) % 360;
        state.size = Math.min(Math.max(Number(((Math.hypot(dx, dy) / DIAL.radius) * MOST).toFixed(2)), 0.05), MOST);
        refresh();
      },
      (step, factor) => {
        if (step === null) [state.angle, state.size] = [90, 1];
        else {
          state.angle = (state.angle - 5 * factor * step[0] + 360) % 360;
          state.size = Math.min(Math.max(Number((state.size + 0.05 * factor * step[1]).toFixed(2)), 0.05), MOST);
        }
        refresh();
      });
    outline.addEventListener("click", (event) => {
      state.probs = inside(weightsOf(pi.place(event)));
      refresh();
    });
    svg.append(outline, ...names, dial, needle, layer, turn.node, pi.node);

    // --- the controls

    const probs = [0, 1, 2].map((k) =>
      ui.slider(`Probability of category ${k + 1}`, { min: LEAST, max: 1 - 2 * LEAST, step: 0.005, value: state.probs[k], show: format }, () => {
        const wanted = probs[k].value();
        const rest = 1 - state.probs[k];
        const next = state.probs.map((p) => (p * (1 - wanted)) / rest);
        next[k] = wanted;
        state.probs = inside(next);
        refresh();
      }));
    const angle = ui.slider("Direction in which the loss falls", { min: 0, max: 359, step: 1, value: state.angle, show: (x) => `${x}°` },
      () => { state.angle = angle.value(); refresh(); });
    const size = ui.slider("Size of its gradient", { min: 0.05, max: MOST, step: 0.01, value: state.size },
      () => { state.size = size.value(); refresh(); });
    const shape = ui.choice("Loss", { linear: "linear", quadratic: "quadratic" }, "quadratic",
      () => { state.curved = shape.value() === "quadratic"; refresh(); });
    const curvature = ui.slider("Curvature", { min: -4, max: 4, step: 0.1, value: state.curvature, show: (x) => format(x, 1) },
      () => { state.curvature = curvature.value(); refresh(); });
    const temperature = ui.slider("Temperature", ui.decades(-1, 1, state.temperature),
      () => { state.temperature = temperature.value(); refresh(); });

    // At the limit of small steps most of a rule plays no part; a relative step is a centred one.
    const allowed = (rule) => rule.stepSize === null
      ? { ...math.DEFAULT, metric: rule.metric, normalizer: rule.normalizer === "project_simplex" ? "sum_normalize" : rule.normalizer }
      : { ...rule, relative: rule.relative && rule.centred };
    const readRule = () => {
      state.rule = allowed({
        stepSize: limited.value() ? null : step.value(), metric: metric.value(), normalizer: normalizer.value(),
        centred: centred.value(), relative: relative.value(), keepMass: keepMass.value(),
      });
      refresh();
    };
    const limited = ui.tick("limit of small steps", true, readRule);
    const step = ui.slider("Step size", ui.decades(-2, 2, 0.5), readRule);
    const metric = ui.choice("Metric", { euclidean: "Euclidean", fisher: "Fisher" }, "fisher", readRule);
    const normalizer = ui.choice("Normaliser", {
      sum_normalize: "clamp, divide by the sum", project_simplex: "project",
      sum_normalize_unclamped: "divide by the sum, unclamped",
    }, "sum_normalize", readRule);
    const centred = ui.tick("centred", true, readRule);
    const relative = ui.tick("relative step", true, readRule);
    const keepMass = ui.tick("keep the mass", false, readRule);
    const presets = Object.entries(PRESETS).map(([name, rule]) =>
      ui.button(name, () => { state.rule = { ...rule }; refresh(); }));

    // --- the numbers

    const methods = {
      ils: "ILS as set", through: "straight-through", gumbel: "Gumbel-Softmax", reinmax: "ReinMax (default)",
    };
    const titles = ["for θ₁", "for θ₂", "for θ₃", "bias", "noise", "cosine"];
    const cells = {};
    const row = (key, name) => {
      cells[key] = titles.map(() => element("td", {}));
      return element("tr", { "data-method": key }, element("th", { scope: "row" }, name), ...cells[key]);
    };
    const table = element("table", { class: "numbers" },
      element("caption", {}, "Mean gradient for the logits; bias and noise relative to the length of the true one"),
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Method"), ...titles.map((t) => element("th", { scope: "col" }, t)))),
      element("tbody", {}, row("exact", "true gradient"), ...Object.entries(methods).map(([key, name]) => row(key, name))));
    const compasses = {};
    const faces = Object.entries(methods).map(([key, name]) => {
      compasses[key] = drawn("g", {});
      const face = drawn("svg", { viewBox: "-0.5 -0.5 1 1", "aria-hidden": "true" }, drawn("circle", { r: 0.46, class: "face" }), compasses[key]);
      return element("figure", { class: "compass" }, face, element("figcaption", {}, name.split(",")[0]));
    });
    const targets = [0, 1, 2].map(() => element("output", {}));
    const targetList = element("ul", { class: "targets" }, ...targets.map((node, k) =>
      element("li", {}, drawn("svg", { viewBox: "-0.05 -0.05 0.1 0.1", "aria-hidden": "true" }, mark(MARKS[k], [0, 0], 0.032, `target draw${k + 1}`)), `after a draw of ${k + 1}: `, node)));
    const live = ui.announcer();
    const hint = element("p", { class: "hint" });

    normalizer.node.classList.add("wide");
    const key = element("ul", { class: "key" },
      element("li", { class: "exact" }, "true gradient"), element("li", { class: "mean" }, "mean of the estimate"),
      element("li", { class: "bias" }, "bias"), element("li", { class: "diamond" }, "mean of the targets"));
    const help = "Arrows point down the gradient. Drag the two discs, or focus one and use the arrow keys.";
    root.append(
      element("div", { class: "columns" },
        element("div", {}, svg, key, element("p", { class: "hint" }, help), targetList, live.node,
          element("div", { class: "compasses" }, ...faces)),
        element("div", { class: "controls" },
          ui.group("Rules", element("div", { class: "buttons" }, ...presets)),
          ui.group("Intermediate Loss Sampling", limited.node, step.node, metric.node, normalizer.node,
            element("div", { class: "ticks" }, centred.node, relative.node, keepMass.node), hint),
          ui.group("Loss", shape.node, curvature.node, angle.node, size.node),
          ui.group("Distribution", ...probs.map((p) => p.node)),
          ui.group("Gumbel-Softmax", temperature.node))),
      element("div", { class: "scrolls", tabindex: 0, role: "region", "aria-label": "Table of the methods" }, table));

    // --- everything that is shown follows the state

    let keep = () => {};
    function refresh() {
      keep();
      const result = compute(state);
      const { rule } = state;
      const limit = rule.stepSize === null;
      limited.set(limit);
      if (!limit) step.set(rule.stepSize);
      metric.set(rule.metric);
      normalizer.set(rule.normalizer);
      centred.set(rule.centred);
      relative.set(rule.relative);
      keepMass.set(rule.keepMass);
      for (const part of [step, centred, keepMass, normalizer]) part.enable(!limit);
      relative.enable(!limit && rule.centred);
      hint.textContent = limit
        ? "At the limit there is no target, and the step, the normaliser and the rest play no part; arrows at the corners show where each draw pulls."
        : rule.relative ? "The step is measured in units of the largest entry of Δ." : "The estimate is divided by the step, to have the units of a gradient.";
      state.probs.forEach((p, k) => {
        probs[k].set(p);
        put(probs[k].node.querySelector("output"), p); // finer than the slider's steps
      });
      angle.set(state.angle);
      size.set(state.size);
      shape.set(state.curved ? "quadratic" : "linear");
      curvature.set(state.curvature);
      curvature.enable(state.curved);

      const [x, y] = pointOf(state.probs);
      pi.node.setAttribute("transform", `translate(${x} ${-y})`);
      pi.node.setAttribute("aria-valuenow", Math.round(100 * state.probs[0]));
      pi.node.setAttribute("aria-valuetext", state.probs.map((p, k) => `category ${k + 1}: ${format(p, 2)}`).join(", "));
      const radians = (state.angle * Math.PI) / 180;
      const reach = (DIAL.radius * state.size) / MOST;
      const tip = [DIAL.x + reach * Math.cos(radians), DIAL.y + reach * Math.sin(radians)];
      turn.node.setAttribute("transform", `translate(${tip[0]} ${-tip[1]})`);
      turn.node.setAttribute("aria-valuenow", Math.round((state.angle / 360) * 100));
      turn.node.setAttribute("aria-valuetext", `${state.angle} degrees, size ${ui.short(state.size)}`);
      needle.replaceChildren(arrow([DIAL.x, DIAL.y], tip, "needle"));

      paintTriangle(layer, state, result);
      const longest = Math.max(math.norm(result.exact), ...Object.values(result.found).map((m) => math.norm(m.mean)), 1e-9);
      for (const key of Object.keys(methods)) paintCompass(compasses[key], result, result.found[key], 0.58 / longest);

      cells.exact.forEach((cell, k) => (k < 3 ? put(cell, result.exact[k]) : (cell.textContent = "")));
      for (const key of Object.keys(methods)) {
        const { mean, share, noise, cosine } = result.found[key];
        [...mean, share, noise, cosine].forEach((value, k) => put(cells[key][k], value));
      }
      result.targets.forEach((target, k) => {
        const text = target === null ? "no target at the limit" : target.map((v) => format(v)).join(", ") + (outside(target) ? " (outside)" : "");
        targets[k].textContent = text;
        targets[k].dataset.value = JSON.stringify(target);
      });
      const left = result.targets.filter(outside).length;
      const said = Object.entries(methods).map(([key, name]) => `${name.split(",")[0]} ${format(result.found[key].share)}`);
      live.say(`Bias, relative to the true gradient: ${said.join("; ")}.` + (left ? ` Targets outside the triangle: ${left}.` : ""));
    }
    refresh();
    // Of the address: how each part of the state is read; what cannot be is left as it was.
    const held = (owner, name, from, to = (x) => x) => ({
      value: () => to(owner()[name]),
      set: (next) => {
        const found = from(next);
        if (found !== undefined) owner()[name] = found;
      },
    });
    const within = (low, high) => (next) => (next !== "" && next >= low && next <= high ? Number(next) : undefined);
    const one = (...names) => (next) => (names.includes(next) ? next : undefined);
    const flag = (next) => ({ true: true, false: false })[next];
    const length = (next) => (next === "limit" ? null : within(0.01, 100)(next));
    const weights = (next) => {
      const found = next.split(",").map(Number);
      return found.length === 3 && found.every((p) => p > 0) ? inside(math.scale(found, 1 / math.sum(found))) : undefined;
    };
    const rule = (...rest) => held(() => state.rule, ...rest);
    const part = (...rest) => held(() => state, ...rest);
    keep = ui.address(root, {
      step: rule("stepSize", length, (x) => x ?? "limit"), metric: rule("metric", one("euclidean", "fisher")),
      normalizer: rule("normalizer", one("sum_normalize", "project_simplex", "sum_normalize_unclamped")),
      centred: rule("centred", flag), relative: rule("relative", flag), keep: rule("keepMass", flag),
      quadratic: part("curved", flag), curvature: part("curvature", within(-4, 4)),
      angle: part("angle", within(0, 359)), size: part("size", within(0.05, MOST)),
      temperature: part("temperature", within(0.1, 10)), probs: part("probs", weights, (q) => q.map((p) => format(p, 4))),
    }, () => {
      state.rule = allowed(state.rule);
      refresh();
    });
  }

  ui.start("explore-simplex", build);
})((globalThis.ilsExplorer ??= {}));
