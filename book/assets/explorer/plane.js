// The plane explorer: bias and noise of every method, with filters. The numbers are the records'.

(function (explorer) {
  "use strict";

  const { ui, chart } = explorer;
  const { element, drawn, short } = ui;

  const LINEAR = 0.1; // up to here the axes are linear, beyond logarithmic
  const WIDTH = 0.6; // of the linear part, in decades
  const TICKS = [0, 0.1, 0.3, 1, 3, 10, 30, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8];

  // --- formulas ---------------------------------------------------------------------------------

  function position(value) {
    const size = Math.abs(value);
    const place = size <= LINEAR ? (WIDTH * size) / LINEAR : WIDTH + Math.log10(size / LINEAR);
    return Math.sign(value) * place;
  }

  // The points that no other beats in both bias and noise, by growing bias.
  function front(points) {
    const ordered = [...points].sort((a, b) => a.bias - b.bias || a.noise - b.noise);
    let lowest = Infinity;
    return ordered.filter((point) => {
      const kept = point.noise < lowest;
      lowest = Math.min(lowest, point.noise);
      return kept;
    });
  }

  function median(values) {
    const ordered = [...values].sort((a, b) => a - b);
    const half = ordered.length >> 1;
    return ordered.length % 2 ? ordered[half] : (ordered[half - 1] + ordered[half]) / 2;
  }

  const mean = (values) => values.reduce((total, value) => total + value, 0) / values.length;

  // Bias and noise of every setting for a choice of problems. Over all kinds and shapes the record
  // pools the instances itself. A mean over kinds would be one over the toy, whose biases are
  // millions: over kinds the median of the cells is taken, over shapes and scales of one kind the mean.
  function pool(plane, kind, shape, scale) {
    if (kind === "all" && shape === "all") return plane.pooled[scale];
    const wanted = [kind, shape, scale];
    const cells = Object.entries(plane.cells)
      .filter(([name]) => name.split("|").every((part, k) => wanted[k] === "all" || part === wanted[k]))
      .map(([, columns]) => columns);
    const one = kind === "all" ? median : mean;
    return [0, 1].map((column) =>
      plane.settings.map((_, k) => {
        const values = cells.map((columns) => columns[column][k]).filter((value) => value !== null);
        return values.length ? one(values) : null;
      }));
  }

  // The points of a choice of problems: of each method and setting that serves there.
  function pointsOf(plane, kind, shape, scale) {
    const [biases, noises] = pool(plane, kind, shape, scale);
    return plane.settings
      .map(([number, setting], k) => {
        const method = plane.methods[number];
        // An estimate of no bias can be below zero.
        const bias = biases[k] === null ? null : Math.max(0, biases[k]);
        return { ...method, setting, bias, noise: noises[k], usual: setting === method.standard };
      })
      .filter((point) => point.bias !== null);
  }

  explorer.plane = Object.freeze({ position, front, pointsOf });

  // --- the page -----------------------------------------------------------------------------------

  const SHAPES = {
    circle: "M0.5,0A0.5,0.5 0 1 1 -0.5,0A0.5,0.5 0 1 1 0.5,0Z",
    square: "M-0.5,-0.5H0.5V0.5H-0.5Z",
    diamond: "M0,-0.6L0.45,0L0,0.6L-0.45,0Z",
    triangle: "M0,-0.55L0.55,0.45H-0.55Z",
    inverted_triangle: "M0,0.55L0.55,-0.45H-0.55Z",
  };

  const sign = (family) =>
    drawn("svg", { viewBox: "-0.7 -0.7 1.4 1.4", class: `sign ${family.colour}`, "aria-hidden": "true" },
      drawn("path", { d: SHAPES[family.marker] }));

  const setting = (point) => (point.option ? `${point.option} ${short(point.setting)}` : "no setting");
  const measures = (point) => `bias ${short(Math.max(point.bias, 0))}, noise ${short(point.noise)}`;

  async function build(root) {
    const plane = explorer.given.plane;
    const named = (values, all) => Object.fromEntries(values.map((v) => [v, v === "all" ? all : v]));
    let shown = [];
    let chosen = null;
    let keep = () => {};

    const kind = ui.choice("Loss", named(plane.kinds, "all kinds"), "all", refresh);
    const shape = ui.choice("Variables × categories", named(plane.shapes, "all shapes"), "all", refresh);
    const scale = ui.choice("Logits", named(plane.scales, "all scales"), "all", refresh);
    const every = ui.tick("all settings, as small dots", true, refresh);
    const families = plane.families.map((family) => {
      const box = ui.tick(family.name, true, refresh);
      box.node.querySelector("label").prepend(sign(family), " ");
      return box;
    });
    const picture = element("div", {});
    const readout = ui.announcer();
    const list = element("fieldset", { class: "methods" }, element("legend", {}, "Methods"));
    // In Firefox what scrolls is a stop of the tab key of its own, unless told otherwise.
    const items = element("div", { class: "items", tabindex: -1 });
    list.append(items);
    root.append(
      element("div", { class: "columns" },
        element("div", {}, picture,
          element("ul", { class: "key" }, element("li", { class: "front" }, "front: nothing else shown beats it in both")),
          readout.node),
        element("div", { class: "controls" },
          ui.group("Problems", kind.node, shape.node, scale.node),
          ui.group("Families", ...families.map((f) => f.node), every.node),
          list)));
    const plot = await chart.mount(plane.plots, "plane", picture, "Bias and noise of the methods");
    plot.node.classList.add("stage");

    // --- the picture

    const colourOf = (point) => ui.colour(plane.families[point.family].colour);
    const coordinates = (points) => ({ x: points.map((p) => position(p.bias)), y: points.map((p) => position(p.noise)) });

    function draw(all) {
      const seen = every.value() ? all : shown;
      const [x, y] = [seen.map((p) => position(p.bias)), seen.map((p) => position(p.noise))];
      const right = Math.max(1.5, ...x) + 0.25;
      const top = Math.max(1.5, ...y) + 0.25;
      plot.range("biases", -0.12, right);
      plot.range("noises", -0.12, top);
      for (const [axis, end] of [["bias axis", right], ["noise axis", top]]) {
        const ticks = TICKS.filter((tick) => position(tick) <= end && (end < 5 || tick === 0 || tick >= 1));
        const model = plot.find(axis);
        model.ticker.ticks = ticks.map(position);
        model.major_label_overrides = new Map(ticks.map((tick) => [position(tick), short(tick)]));
      }
      plot.fill("front", coordinates(front(every.value() ? all : shown)));
      plot.fill("rest", { ...coordinates(every.value() ? all : []), colour: (every.value() ? all : []).map(colourOf) });
      plot.fill("points", {
        ...coordinates(shown), colour: shown.map(colourOf),
        marker: shown.map((p) => plane.families[p.family].marker), row: shown.map((_, k) => k),
      });
      mark();
    }

    // The ring and the label of the chosen method; the label stays within the frame.
    function mark() {
      const label = plot.find("label");
      plot.fill("chosen", coordinates(chosen ? [chosen] : []));
      label.visible = chosen !== null;
      if (!chosen) return;
      const [x, y] = [position(chosen.bias), position(chosen.noise)];
      const [across, up] = ["biases", "noises"].map((name, k) => {
        const { start, end } = plot.find(name);
        return ([x, y][k] - start) / (end - start);
      });
      const room = plot.plot.inner_width ?? 300;
      const width = chart.width(label, chosen.name) + 4;
      const left = Math.min(Math.max(across * room + 12, 2), Math.max(room - width, 2));
      label.setv({ x, y, text: chosen.name, x_offset: left - across * room, y_offset: up > 0.85 ? -34 : 12 });
    }

    function choose(point) {
      chosen = point;
      mark();
      for (const item of items.children) item.classList.toggle("chosen", item.dataset.name === point?.name);
      if (point) readout.say(`${point.name}, ${setting(point)}: ${measures(point)}.`);
    }

    // --- the list: one stop of the tab key, arrow keys within

    function write() {
      const focused = items.contains(document.activeElement);
      items.replaceChildren(...shown.map((point) => {
        const input = element("input", { type: "radio", name: "explorer-method", value: point.name });
        input.checked = point.name === chosen?.name;
        input.addEventListener("focus", () => choose(point));
        input.addEventListener("change", () => choose(point));
        const label = element("label", { "data-name": point.name }, input, sign(plane.families[point.family]),
          element("span", { class: "name" }, point.name),
          element("span", { class: "measures", "data-bias": point.bias, "data-noise": point.noise }, measures(point)));
        // Not on entering: a list that changes under a pointer at rest would choose.
        label.addEventListener("pointermove", () => chosen === point || choose(point));
        return label;
      }));
      if (focused) (items.querySelector("input:checked") ?? items.querySelector("input"))?.focus();
    }

    function refresh() {
      keep();
      const wanted = new Set(plane.families.map((_, k) => k).filter((k) => families[k].value()));
      const all = pointsOf(plane, kind.value(), shape.value(), scale.value()).filter((p) => wanted.has(p.family));
      shown = all.filter((p) => p.usual);
      chosen = shown.find((p) => p.name === chosen?.name) ?? null;
      draw(all);
      write();
      const least = front(shown).map((p) => p.name);
      const text = `${shown.length} of ${plane.methods.length} methods are shown.`
        + (least.length ? ` At their usual settings the front is ${least.join("; ")}.` : "");
      readout.say(text);
      plot.describe(`Scatter plot, bias to the right, noise upwards. ${text} The list of methods has the numbers.`);
    }

    // The mouse over a mark, or a finger on it, chooses as the list does.
    const source = plot.find("points");
    const pick = (indices) => {
      if (indices.length && shown[indices[0]] !== chosen) choose(shown[indices[0]]);
    };
    source.inspect.connect(() => pick(source.inspected.indices));
    source.selected.properties.indices.change.connect(() => pick(source.selected.indices));
    plot.plot.properties.inner_width.change.connect(mark);
    ui.onTheme(refresh);
    refresh();
    const hidden = Object.fromEntries(families.map((box, k) => [plane.families[k].name, box]));
    keep = ui.address(root, { loss: kind, shape, logits: scale, settings: every, ...hidden }, refresh);
  }

  ui.start("explore-plane", build);
})((globalThis.ilsExplorer ??= {}));
