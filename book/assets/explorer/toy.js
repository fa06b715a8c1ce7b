// The toy explorer: the note's experiment, live. Only the page; the formulas are in toy-math.js.

(function (explorer) {
  "use strict";

  const { math, toyMath, random, ui, chart } = explorer;
  const { element, put, short, format } = ui;

  const CATEGORIES = 5;
  const EPS = 1e-8;
  const END = 50000; // steps, as in the note
  const POINTS = 1000; // of the curve, at most twice as many
  const NOISE = 512; // of the set on which the limit of Gumbel-Softmax is computed

  const SETTINGS = {
    "ILS (the note's code)": { name: "ILS", form: "sum", gradient: "probs", step: 0.01, rate: 0.01 },
    "ILS (the note), mass kept, c = 1": { name: "ILS", form: "keep", gradient: "logits", step: 2.5e-7, rate: 1 },
    "Gumbel-Softmax": { name: "Gumbel-Softmax", temperature: 1, rate: 1 },
    "ReinMax (default)": { name: "ReinMax", rate: 0.01 },
    "straight-through": { name: "straight-through", rate: 0.01 },
  };

  // --- a run --------------------------------------------------------------------------------------

  // Starts and targets as the note draws them: logits uniform, weights uniform over their sum.
  function begin(seed, problems) {
    const next = random.generator(seed);
    const rows = () => Array.from({ length: problems }, () => Array.from({ length: CATEGORIES }, next));
    const logits = rows();
    const targets = rows().map((row) => math.scale(row, 1 / math.sum(row)));
    return { next, logits, targets, step: 0, curve: { x: [], y: [] }, stride: 1 };
  }

  const divergence = (run) =>
    math.sum(run.targets.map((p, n) => toyMath.divergence(p, math.softmax(run.logits[n]), EPS))) / run.targets.length;

  // One step for every problem. Where the gradient is of the size of 1 / (eps N K), the rate is
  // in units of eps N K.
  function advance(run, method) {
    const size = run.targets.length * CATEGORIES;
    const huge = method.name === "ReinMax" || method.name === "straight-through";
    const rate = method.rate * (huge ? EPS * size : 1);
    run.logits = run.logits.map((logits, n) => {
      const noise = method.name === "Gumbel-Softmax"
        ? Array.from({ length: CATEGORIES }, () => random.gumbel(run.next()))
        : run.next();
      const update = toyMath.estimate(method, run.targets[n], logits, noise, EPS, size);
      return toyMath.step(logits, update, rate);
    });
    run.step += 1;
    if (run.step % run.stride === 0) record(run);
  }

  // The curve has at most 2,000 points: when it is full, every other one is dropped.
  function record(run) {
    run.curve.x.push(run.step);
    run.curve.y.push(divergence(run));
    if (run.curve.x.length < 2 * POINTS) return;
    for (const key of ["x", "y"]) run.curve[key] = run.curve[key].filter((_, k) => k % 2 === 0);
    run.stride *= 2;
  }

  // Where the method comes to rest, problem by problem, and in words.
  function limits(run, method) {
    const size = run.targets.length * CATEGORIES;
    const c = method.stepSize / (EPS * size);
    const each = (limit) => run.targets.map(limit);
    if (method.name === "straight-through") {
      return { models: each(toyMath.straightThroughLimit), words: "max(0, 1 − λ/p), where λ makes the sum 1" };
    }
    if (method.name === "ReinMax") {
      return { models: each(toyMath.ascentLimit), words: "the corner at the largest p" };
    }
    if (method.name === "Gumbel-Softmax") {
      const noise = random.gumbelPoints(NOISE, CATEGORIES);
      return {
        models: each((p) => toyMath.gumbelLimit(p, method.temperature, EPS, noise)),
        words: "where the mean relaxed sample is p, computed on a fixed set of noise",
      };
    }
    if (!method.keepMass) {
      return {
        models: each((p) => toyMath.sumNormalizeLimit(p, method.stepSize, EPS, size)),
        words: `p (1 + c (1 − p)) over its sum, c = ${short(c)}`,
      };
    }
    if (c <= 1 + 1e-9) return { models: each((p) => p), words: `p itself, as c = ${short(c)} is at most 1` };
    return {
      models: each((p) => toyMath.stationary(toyMath.transition(method, p, EPS, size))),
      words: `the stationary distribution of its targets, c = ${short(c)}`,
    };
  }

  // --- the page -------------------------------------------------------------------------------------

  async function build(root) {
    let run = null;
    let rest = null;
    let running = 0;
    let keep = () => {};

    const again = () => { which.most(problems.value()); pause(); reset(); keep(); };
    const turned = () => { follow(); draw(); tell(); keep(); };
    const name = ui.choice("Method", {
      ILS: "ILS as set", "Gumbel-Softmax": "Gumbel-Softmax", ReinMax: "ReinMax (default)",
      "straight-through": "straight-through",
    }, "ILS", turned);
    const form = ui.choice("Way back", { sum: "divide by the sum", keep: "keep the mass" }, "sum", turned);
    const gradient = ui.choice("Gradient", { probs: "the note's", logits: "corrected", centred: "corrected, centred" }, "probs", turned);
    const step = ui.slider("Step size α", ui.decades(-9, 0, 0.01), turned);
    const temperature = ui.slider("Temperature", ui.decades(-1, 1, 1), turned);
    const rate = ui.slider("Learning rate", ui.decades(-4, 2, 0.01), turned);
    const problems = ui.whole("Problems at once", 1, 20, 5, again);
    const seed = ui.whole("Seed", 1, 9999, 14, again);
    const pace = ui.choice("Steps per frame", { 1: "1", 10: "10", 100: "100", 1000: "1,000" }, "100", () => keep());
    const which = ui.whole("Problem in the lower picture", 1, 5, 1, () => { draw(); tell(); keep(); });
    const settings = Object.entries(SETTINGS).map(([label, to]) =>
      ui.button(label, () => {
        name.set(to.name);
        if (to.form) [form.set(to.form), gradient.set(to.gradient), step.set(to.step)];
        if (to.temperature) temperature.set(to.temperature);
        rate.set(to.rate);
        turned();
      }));
    const go = ui.button("Run", () => (running ? pause() : start()));
    const one = ui.button("Step", () => { pause(); advance(run, method()); draw(); tell(true); });
    const restart = ui.button("Reset", again);
    name.node.classList.add("wide");

    const method = () => ({
      name: name.value(), stepSize: step.value(), normalizer: "sum_normalize", metric: "euclidean",
      keepMass: form.value() === "keep", gradient: gradient.value(), temperature: temperature.value(),
      rate: rate.value(),
    });

    const numbers = ["step", "divergence now", "divergence at the limit"].map((label) => {
      const output = element("output", {});
      return { output, node: element("li", {}, `${label}: `, output) };
    });
    const live = ui.announcer();
    const rule = element("p", { class: "hint" });
    const rows = ["truth p", "model π", "limit"].map((label) => {
      const cells = Array.from({ length: CATEGORIES }, () => element("td", {}));
      return { cells, node: element("tr", { "data-row": label.split(" ")[0] }, element("th", { scope: "row" }, label), ...cells) };
    });
    const table = element("table", { class: "numbers narrow" },
      element("caption", {}, "The problem in the lower picture"),
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Category"),
        ...Array.from({ length: CATEGORIES }, (_, k) => element("th", { scope: "col" }, `${k + 1}`)))),
      element("tbody", {}, ...rows.map((row) => row.node)));
    const pictures = element("div", {});
    root.append(
      element("div", { class: "columns" },
        element("div", {},
          element("div", { class: "buttons" }, go, one, restart),
          pictures,
          element("ul", { class: "key" },
            element("li", { class: "mean" }, "model"), element("li", { class: "bias" }, "limit"), element("li", { class: "truth" }, "truth")),
          element("ul", { class: "readings" }, ...numbers.map((n) => n.node)),
          live.node),
        element("div", { class: "controls" },
          ui.group("Settings", element("div", { class: "buttons" }, ...settings)),
          ui.group("Method", name.node, form.node, gradient.node, step.node, temperature.node, rate.node, rule),
          ui.group("Experiment", problems.node, seed.node, pace.node, which.node))),
      element("div", { class: "scrolls", tabindex: 0, role: "region", "aria-label": "Table of one problem" }, table));
    const curve = await chart.mount(explorer.given.toy.plots, "curve", pictures, "Divergence against the step");
    curve.node.classList.add("stage");
    const bars = await chart.mount(explorer.given.toy.plots, "bars", pictures, "Probabilities of one problem");

    // --- what follows what

    function follow() {
      const now = method();
      const ils = now.name === "ILS";
      for (const part of [form, gradient, step]) part.node.hidden = !ils;
      temperature.node.hidden = now.name !== "Gumbel-Softmax";
      rest = limits(run, now);
      rest.divergence = math.sum(run.targets.map((p, n) => toyMath.divergence(p, rest.models[n], EPS))) / run.targets.length;
      if (Math.abs(rest.divergence) < 1e-12) rest.divergence = 0;
      rule.textContent = `It converges to ${rest.words}.`
        + (now.name === "ReinMax" || now.name === "straight-through" ? " Its learning rate is in units of ε N K." : "");
    }

    function draw() {
      const now = divergence(run);
      const seen = [...run.curve.y, now, rest.divergence].filter((y) => y > 0);
      const low = Math.max(Math.min(...seen) / 1.5, 1e-9);
      curve.range("divergences", low, Math.max(...seen) * 1.5);
      curve.range("steps", 0, Math.max(100, run.step));
      curve.fill("curve", { x: [...run.curve.x, run.step], y: [...run.curve.y, now] });
      curve.find("limit").setv({ location: Math.max(rest.divergence, low / 2), visible: rest.divergence > 0 });
      const shown = which.value() - 1;
      const parts = [run.targets[shown], math.softmax(run.logits[shown]), rest.models[shown]];
      const places = parts[0].map((_, k) => k + 1);
      bars.range("probabilities", 0, 1.05 * Math.max(...parts.flat()));
      bars.fill("bars", {
        left: places.map((x) => x - 0.26), middle: places, right: places.map((x) => x + 0.26),
        truth: parts[0], model: parts[1], limit: parts[2],
      });
      rows.forEach((row, n) => row.cells.forEach((cell, k) => put(cell, parts[n][k])));
      put(numbers[0].output, run.step, run.step.toLocaleString("en-GB"));
      put(numbers[1].output, now, short(now));
      put(numbers[2].output, rest.divergence, short(rest.divergence));
    }

    // For readers who hear the page, and as text of the pictures: numbers at rest only.
    function tell(atOnce) {
      const text = running ? "Running: the step and the divergence stand below the pictures." : `After ${run.step.toLocaleString("en-GB")} steps the divergence is ${short(divergence(run))}; at the limit it is ${short(rest.divergence)}.`;
      live.say(text, atOnce);
      curve.describe(`Curve of the divergence against the step, with a dashed line at the limit. ${text}`);
      const model = math.softmax(run.logits[which.value() - 1]);
      bars.describe(`Bars of the truth, the model and the limit for five categories; the table below has the numbers. The model: ${model.map((q) => format(q, 2)).join(", ")}.`);
    }

    function reset() {
      run = begin(seed.value(), problems.value());
      record(run);
      follow();
      draw();
      tell();
    }

    function pause() {
      arrival.disconnect();
      if (!running) return;
      cancelAnimationFrame(running);
      running = 0;
      go.textContent = "Run";
      draw();
      tell(true);
    }

    function start() {
      arrival.disconnect();
      if (run.step >= END) reset();
      go.textContent = "Pause";
      const tickOn = () => {
        const now = method();
        // Who asks for less motion sees the end of the run, not its way there.
        const count = ui.calm() ? 1000 : Number(pace.value());
        for (let k = 0; k < count && run.step < END; k += 1) advance(run, now);
        if (run.step >= END) return pause();
        if (!ui.calm()) draw();
        running = requestAnimationFrame(tickOn);
      };
      running = requestAnimationFrame(tickOn);
      tell(true);
    }

    // It runs when it is first seen, unless one asks for less motion or has begun to use it.
    const arrival = new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && start(), { threshold: 0.25 });
    const watch = () => ui.calm() || arrival.observe(curve.node);
    reset();
    keep = ui.address(root, {
      method: name, form, gradient, step, temperature, rate, seed, pace,
      problems: { ...problems, set: (next) => { problems.set(next); which.most(problems.value()); } },
      problem: which,
    }, (button) => {
      again();
      if (!button) return watch();
      go.focus({ preventScroll: true });
      start();
    });
    watch();
  }

  ui.start("explore-toy", build);
})((globalThis.ilsExplorer ??= {}));
