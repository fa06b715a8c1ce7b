// What is wider than the text may use the margin, as far as it needs. This runs before the theme looks
// for boxes that do, by their class, and hides the contents of the page behind them while they are seen.
(() => {
  "use strict";
  const BOXES = '.cell_output > .output, section > .pst-scrollable-table-container, section > div[class*="highlight-"]';
  const scrolls = (box) => box.scrollWidth > box.clientWidth + 1;
  // On a page without contents the theme would fail.
  const classes = document.querySelector(".bd-sidebar-secondary") ? ["widened", "popout"] : ["widened"];
  for (const box of document.querySelectorAll(BOXES)) {
    const parts = [box, ...box.querySelectorAll("pre")];
    if (!parts.some(scrolls)) continue;
    const grown = box.closest(".tag_output_scroll .cell_output") ?? box;
    grown.classList.add(...classes);
    // Firefox leaves no room for the bar of a box that scrolls downwards.
    if (parts.some(scrolls)) grown.style.width = `${grown.offsetWidth + 16}px`;
  }
})();
