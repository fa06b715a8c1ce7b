// What the three explorers share: elements, labelled controls, numbers, a live region, the theme.

(function (explorer) {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (value === false || value === null || value === undefined) continue;
      node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children);
    return node;
  }

  const element = (name, attributes, ...children) =>
    fill(document.createElement(name), attributes, children);
  const drawn = (name, attributes, ...children) =>
    fill(document.createElementNS(SVG, name), attributes, children);

  let count = 0;
  const freshId = (stem) => `explorer-${stem}-${(count += 1)}`;

  // A true minus sign, and no minus before a zero.
  function format(value, digits = 3) {
    if (!Number.isFinite(value)) return "–";
    const text = Math.abs(value).toFixed(digits);
    return (value < 0 && Number(text) !== 0 ? "−" : "") + text;
  }

  // Three significant digits, for numbers of any size.
  function short(value) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e-3 && size < 1e6) {
      const rounded = Number(value.toPrecision(3));
      return rounded.toLocaleString("en-GB", { maximumSignificantDigits: 3 }).replace("-", "−");
    }
    const [digits, power] = value.toExponential(1).split("e");
    const raised = [...String(Number(power))].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("");
    return `${digits.replace("-", "−")} · 10${raised}`;
  }

  // Shows a number, and keeps all its digits for whoever reads the page by machine.
  function put(node, value, text = format(value)) {
    node.textContent = text;
    node.dataset.value = value;
  }

  // --- controls: each has a node, value(), set(value) and enable(whether) ----------------------

  function control(node, input, value, set) {
    return { node, input, value, set, enable: (whether) => (input.disabled = !whether) };
  }

  // A slider; `from` maps its position to the value that is shown and used, `to` back.
  function slider(label, options, changed) {
    const { min, max, step, value, from = (x) => x, to = (x) => x, show = short } = options;
    const id = freshId("slider");
    const input = element("input", { type: "range", id, min, max, step });
    const output = element("output", { for: id });
    const read = () => from(Number(input.value));
    const refresh = () => {
      put(output, read(), show(read()));
      input.setAttribute("aria-valuetext", show(read()));
    };
    const set = (next) => {
      const place = to(Number(next));
      if (Number.isFinite(place)) input.value = place;
      refresh();
    };
    set(value);
    input.addEventListener("input", () => {
      refresh();
      changed();
    });
    const node = element("div", { class: "control" }, element("label", { for: id }, label), output, input);
    return control(node, input, read, set);
  }

  // Ten steps a decade, at round numbers; low and high are powers of ten.
  const ROUND = [1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5, 6.3, 8];
  const decades = (low, high, value) => ({
    min: 10 * low,
    max: 10 * high,
    step: 1,
    value,
    from: (x) => Number(`${ROUND[((x % 10) + 10) % 10]}e${Math.floor(x / 10)}`),
    to: (x) => Math.round(10 * Math.log10(x)),
  });

  function choice(label, entries, value, changed) {
    const id = freshId("choice");
    const options = Object.entries(entries).map(([key, text]) => element("option", { value: key }, text));
    const input = element("select", { id }, ...options);
    input.value = value;
    input.addEventListener("change", changed);
    const node = element("div", { class: "control" }, element("label", { for: id }, label), input);
    return control(node, input, () => input.value, (next) => Object.hasOwn(entries, next) && (input.value = next));
  }

  function tick(label, value, changed) {
    const id = freshId("tick");
    const input = element("input", { type: "checkbox", id });
    input.checked = value;
    input.addEventListener("change", changed);
    const node = element("div", { class: "control tick" }, input, element("label", { for: id }, label));
    return control(node, input, () => input.checked, (next) => (input.checked = String(next) === "true"));
  }

  // A box for a whole number. What cannot be served is put right, and a line beside the box says so:
  // the box shows what is computed with.
  function whole(label, min, max, value, changed) {
    const id = freshId("whole");
    const input = element("input", { type: "number", id, min, max, step: 1, inputmode: "numeric", "aria-describedby": `${id}-note` });
    const note = element("p", { id: `${id}-note`, class: "note", "aria-live": "polite" });
    let kept = value;
    input.value = value;
    const set = (wanted) => {
      const asked = String(wanted).trim();
      const found = asked === "" ? NaN : Number(asked);
      const most = Number(input.max);
      // What is no number leaves what stood there.
      kept = Math.min(Math.max(Number.isNaN(found) ? kept : Math.round(found), min), most);
      input.value = kept;
      const put = asked === "" ? "what was typed" : asked;
      note.textContent = kept === found ? "" : `Whole numbers from ${min} to ${most}: ${kept} in place of ${put}.`;
    };
    input.addEventListener("change", () => {
      set(input.value);
      changed();
    });
    const node = element("div", { class: "control" }, element("label", { for: id }, label), input, note);
    const most = (next) => {
      if (next === Number(input.max)) return;
      input.max = next;
      set(kept);
    };
    return { ...control(node, input, () => kept, set), most };
  }

  function button(label, pressed) {
    const node = element("button", { type: "button" }, label);
    node.addEventListener("click", pressed);
    return node;
  }

  const group = (legend, ...nodes) =>
    element("fieldset", {}, element("legend", {}, legend), ...nodes);

  // Says a sentence once the hand has come to rest, or at once; returns the region and the function.
  function announcer() {
    const node = element("p", { role: "status", "aria-live": "polite", class: "summary" });
    let timer = 0;
    const say = (text, atOnce = !node.textContent) => {
      clearTimeout(timer);
      if (atOnce) node.textContent = text;
      else timer = setTimeout(() => (node.textContent = text), 300);
    };
    return { node, say };
  }

  // --- the address ----------------------------------------------------------------------------------

  // Keeps in the address what the controls are set to, so that a link leads to it: as in
  // #method=ReinMax&seed=3, and nothing of a control that is as it was at the start. Follows an
  // address that is entered, and the buttons of the page with such a state; `arrived` is told which.
  // Either brings the explorer, `root`, into view.
  function address(root, controls, arrived) {
    const usual = Object.fromEntries(Object.entries(controls).map(([name, one]) => [name, String(one.value())]));
    const start = location.href.split("#")[0];
    let timer = 0;
    const follow = (text, button) => {
      const wanted = new URLSearchParams(text);
      for (const [name, one] of Object.entries(controls)) {
        one.set(usual[name]);
        if (wanted.has(name)) one.set(wanted.get(name));
      }
      arrived(button);
      root.scrollIntoView(button ? {} : { behavior: "instant" });
      write();
    };
    const given = () => location.hash.slice(1);
    function write() {
      clearTimeout(timer);
      const moved = Object.entries(controls).filter(([name, one]) => String(one.value()) !== usual[name]);
      const text = new URLSearchParams(moved.map(([name, one]) => [name, one.value()])).toString();
      // An anchor of the page is left alone until something has been set.
      if (text || given().includes("=")) history.replaceState(null, "", text ? `${start}#${text}` : start);
    }
    addEventListener("hashchange", () => given().includes("=") && follow(given()));
    for (const button of document.querySelectorAll("button[data-state]")) {
      button.disabled = false;
      button.addEventListener("click", () => follow(button.dataset.state, button));
    }
    if (given().includes("=")) follow(given());
    // Browsers limit how often an address may change.
    return () => {
      clearTimeout(timer);
      timer = setTimeout(write, 300);
    };
  }

  // --- the page -------------------------------------------------------------------------------------

  // A colour of explorer.css in the theme that is on.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--explorer-${name}`).trim();

  function onTheme(changed) {
    const watch = new MutationObserver(changed);
    watch.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  }

  const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  // Builds an explorer in its place; should that fail, what stands there without scripts is shown.
  async function start(id, build) {
    const place = document.getElementById(id);
    place.hidden = false;
    try {
      await build(place);
      place.dataset.ready = "";
    } catch (error) {
      place.hidden = true;
      place.insertAdjacentHTML("afterend", place.nextElementSibling.textContent);
      throw error;
    }
  }

  explorer.ui = Object.freeze({
    element, drawn, format, short, put, slider, decades, choice, tick, whole, button, group,
    announcer, address, colour, onTheme, calm, start,
  });
})((globalThis.ilsExplorer ??= {}));
