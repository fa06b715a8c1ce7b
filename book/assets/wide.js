// What is wider than the text may use the margin, as far as it needs. This runs before the theme looks
// for boxes that do, by their class, and hides the contents of the page behind them while they are seen.
(() => {
  "use strict";
  const BOXES = '.cell_output > .output, section > .pst-scrollable-table-container, section > div[class*="highlight-"]';
  const scrolls = (box) => box.scrollWidth > box.clientWidth + 1;
  // On a page without contents the theme would fail.
  const classes = document.querySelector(".bd-sidebar-secondary") ? ["widened", "popout"] : ["widened"];
  for (const box of document.querySelectorAll(BOXES)) {
    if (![box, ...box.querySelectorAll("pre")].some(scrolls)) continue;
    (box.closest(".tag_output_scroll .cell_output") ?? box).classList.add(...classes);
  }
})();
