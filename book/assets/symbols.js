// Point at a formula, or tap on it, and see what its symbols mean.
//
// book/_ext/symbols.py has numbered the symbols of each formula by classes, and has put their meanings
// into a list at the head of the page, from which they are copied. The list is also the way by
// keyboard: if every formula were a tab stop, a page had hundreds. Only formulas that scroll are.
// A link shows what it leads to, as book/_ext/previews.py has it, when pointed at or focused; a number
// its interval, as book/_ext/intervals.py has marked it.
(() => {
  "use strict";
  const DELAY = 250; // ms, so that nothing flickers under a pointer that passes by
  const MARGIN = 8; // pixels from the edges of the window
  const NUMBERED = '.math[class*="symbol-"]';

  const LINK = "article a.internal[href*='#']:not(.to-code, .headerlink)";
  const INTERVAL = "article .interval";
  const ROOT = new URL(document.documentElement.dataset.content_root ?? "./", location.href);

  let tip = null;
  let shown = null;
  let timer = 0;

  function entries(formula) {
    const list = document.createElement("dl");
    for (const name of formula.classList) {
      const term = name.startsWith("symbol-") && document.querySelector(`.symbols dt.${name}`);
      if (term) {
        list.append(term.cloneNode(true), term.nextElementSibling.cloneNode(true));
      }
    }
    for (const link of list.querySelectorAll("a")) {
      link.replaceWith(...link.childNodes); // a tooltip is read, not operated
    }
    for (const copy of list.querySelectorAll("[tabindex]")) {
      copy.removeAttribute("tabindex");
    }
    return list;
  }

  function preview(link) {
    const key = link.href.startsWith(ROOT.href) ? link.href.slice(ROOT.href.length) : "";
    const box = document.createElement("div");
    box.className = "preview";
    box.innerHTML = globalThis.PREVIEWS?.[key] ?? "";
    for (const image of box.querySelectorAll("img")) {
      image.src = new URL(image.getAttribute("src").replace(/^(\.\.\/)+/, ""), ROOT);
      image.onload = () => tip?.contains(image) && place(shown);
    }
    return box;
  }

  // The theme's own title would be a second tooltip.
  for (const link of document.querySelectorAll(LINK)) {
    if (preview(link).children.length) link.removeAttribute("title");
  }

  // Plus or minus is for the eye; the ear has the brackets, once, and so not the tooltip.
  for (const number of document.querySelectorAll(INTERVAL)) {
    const half = document.createElement("span");
    half.setAttribute("aria-hidden", "true");
    half.textContent = ` ± ${number.dataset.half}`;
    number.lastChild.before(half);
    number.tabIndex = 0;
  }

  function interval(number) {
    const line = document.createElement("p");
    line.textContent = number.dataset.tip;
    return line;
  }

  async function typeset(box, link) {
    await window.MathJax?.startup?.promise;
    await window.MathJax?.typesetPromise?.([box]);
    for (const inner of box.querySelectorAll("[tabindex]")) inner.removeAttribute("tabindex");
    if (tip?.contains(box)) place(link);
  }

  function place(formula, x) {
    const box = (formula.querySelector("svg") ?? formula).getBoundingClientRect();
    const wide = document.documentElement.clientWidth;
    const high = window.innerHeight;
    const left = Math.min(x ?? box.left, wide - tip.offsetWidth - MARGIN);
    const below = box.bottom + MARGIN;
    const above = box.top - tip.offsetHeight - MARGIN;
    const fits = below + tip.offsetHeight <= high - MARGIN || above < MARGIN;
    const top = Math.min(fits ? below : above, high - tip.offsetHeight - MARGIN);
    tip.style.left = `${Math.max(MARGIN, left)}px`;
    tip.style.top = `${Math.max(MARGIN, top)}px`;
  }

  function show(formula, x) {
    clearTimeout(timer);
    if (shown === formula) return;
    hide();
    const link = formula.matches(LINK);
    const number = formula.matches(INTERVAL);
    const list = link ? preview(formula) : number ? interval(formula) : entries(formula);
    if (!list.hasChildNodes()) return;
    tip = document.createElement("div");
    tip.id = "symbol-tip";
    tip.setAttribute("role", "tooltip");
    tip.append(list);
    document.body.append(tip);
    place(formula, x);
    if (number) tip.setAttribute("aria-hidden", "true");
    else formula.setAttribute("aria-describedby", tip.id);
    shown = formula;
    if (link) typeset(list, formula);
  }

  function hide() {
    clearTimeout(timer);
    tip?.remove();
    shown?.removeAttribute("aria-describedby");
    tip = shown = null;
  }

  function later(action) {
    clearTimeout(timer);
    timer = setTimeout(action, DELAY);
  }

  // By keyboard the focus itself scrolls the page: the tooltip then keeps beside its formula.
  function follow() {
    if (!focused(shown)) return hide();
    tip.hidden = false;
    place(shown);
    const box = shown.getBoundingClientRect();
    tip.hidden = box.bottom < 0 || box.top > window.innerHeight;
  }

  const formulaAt = (target) => (target instanceof Element ? target.closest(`${NUMBERED}, ${LINK}, ${INTERVAL}`) : null);
  const focused = (at) => at?.matches(":focus-visible") || at?.querySelector(":focus-visible");

  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch") return; // a tap clicks
    const formula = formulaAt(event.target);
    if (formula && formula !== shown) {
      const x = formula.tagName === "DIV" ? event.clientX : undefined;
      later(() => show(formula, x));
    } else if (formula || tip?.contains(event.target)) {
      clearTimeout(timer); // the pointer may rest on the tooltip, too
    } else {
      later(hide);
    }
  });
  document.addEventListener("click", (event) => {
    const formula = formulaAt(event.target);
    if (formula?.matches(LINK)) hide(); // it is followed
    else if (formula) show(formula, formula.tagName === "DIV" ? event.clientX : undefined);
    else if (!tip?.contains(event.target)) hide();
  });
  document.addEventListener("focusin", (event) => {
    const formula = formulaAt(event.target);
    if (focused(formula)) show(formula);
  });
  document.addEventListener("focusout", (event) => formulaAt(event.target) === shown && hide());
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  window.addEventListener("scroll", follow, { passive: true });
  window.addEventListener("resize", hide);

  // What scrolls sideways can be scrolled by the keyboard.
  function reach() {
    for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
      if (formula.scrollWidth > formula.clientWidth + 1) formula.tabIndex = 0;
      else formula.removeAttribute("tabindex");
    }
    // The theme asks the same of these, but before formulas are set, and late after a resize.
    for (const box of document.querySelectorAll("pre, .cell_output > .output, .pst-scrollable-table-container, article figure[id^=fig-]")) {
      const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
      box.tabIndex = scrolls ? 0 : -1;
    }
  }
  window.addEventListener("load", async () => {
    await window.MathJax?.startup?.promise;
    reach();
    window.addEventListener("resize", reach);
  });
})();
