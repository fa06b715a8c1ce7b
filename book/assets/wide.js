// What is wider than the text may use the margin, as far as it needs; what is wider still scrolls. This runs before the theme looks
// for boxes that do, by their class, and hides the contents of the page behind them while they are seen.
(() => {
  "use strict";
  const BOXES = '.cell_output > .output, section > .pst-scrollable-table-container, section > div[class*="highlight-"]';
  const scrolls = (box) => box.scrollWidth > box.clientWidth + 1;
  // On a page without contents the theme would fail.
  const classes = document.querySelector(".bd-sidebar-secondary") ? ["widened", "popout"] : ["widened"];
  for (const box of document.querySelectorAll(BOXES)) {
    // In a narrow window what is stacked does not scroll; the window may grow.
    if (![box, ...box.querySelectorAll("pre")].some(scrolls) && !box.querySelector(".stacked")) continue;
    (box.closest(".tag_output_scroll .cell_output") ?? box).classList.add(...classes);
  }

  // What scrolls shows at its edges where there is more: see custom.css.
  const SCROLLING =
    'figure, pre, .cell_output, .cell_output > .output, .pst-scrollable-table-container, .scrolls, mjx-container[display="true"]';
  const boxes = new Set();
  function mark(box) {
    const clips = getComputedStyle(box).overflowX !== "visible";
    box.classList.toggle("more-right", clips && box.scrollWidth - box.clientWidth - box.scrollLeft > 2);
    box.classList.toggle("more-below", clips && box.scrollHeight - box.clientHeight - box.scrollTop > 2);
    box.style.setProperty("--bar-right", `${box.offsetWidth - box.clientWidth}px`);
    box.style.setProperty("--bar-below", `${box.offsetHeight - box.clientHeight}px`);
  }
  function look() {
    for (const box of document.querySelectorAll(SCROLLING)) {
      if (!boxes.has(box)) box.addEventListener("scroll", () => mark(box), { passive: true });
      boxes.add(box);
    }
    boxes.forEach(mark);
  }
  window.addEventListener("resize", look);
  window.addEventListener("load", () => {
    look();
    globalThis.MathJax?.startup?.promise?.then(look); // formulas come later
  });
})();
