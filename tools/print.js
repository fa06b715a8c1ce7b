// What tools/pdf.py does to the joined page before it is printed.

/** The mathematics is drawn; its source is what a screen reader hears. */
function nameFormulas() {
  for (const item of MathJax.startup.document.math)
    item.typesetRoot?.querySelector("svg")?.setAttribute("aria-label", item.math.trim());
}

/** Smaller letters, down to 6 points, until `wide()` is false; if it stays true, as before. */
function shrink(element, wide) {
  const least = 6 * 96 / 72;
  let size = parseFloat(getComputedStyle(element).fontSize);
  while (wide() && size - 0.25 >= least) element.style.fontSize = `${(size -= 0.25)}px`;
  const fits = !wide();
  if (!fits) element.style.fontSize = "";
  return fits;
}

/** Shrink what is too wide, or let its lines break; keep what is short on one page.
    Returns what sticks out all the same. */
function fit() {
  const column = document.body.clientWidth;
  for (const pre of document.querySelectorAll("pre")) {
    // A little less than there is: letters on paper are not rounded to pixels.
    const room = 0.98 * pre.clientWidth;
    const text = document.createRange();
    text.selectNodeContents(pre);
    pre.style.whiteSpace = "pre";
    shrink(pre, () => text.getBoundingClientRect().width > room);
    pre.style.whiteSpace = "";
  }
  for (const table of document.querySelectorAll("table")) {
    const wide = () => table.getBoundingClientRect().right > column;
    if (table.closest(".text_html")) table.classList.add("one-line");
    if (shrink(table, wide)) continue;
    table.classList.remove("one-line");
    if (shrink(table, wide)) continue;
    table.classList.add("torn");
    table.style.fontSize = "6pt";
  }
  for (const element of document.querySelectorAll("pre, table, .cell_output"))
    element.classList.toggle("whole", element.getBoundingClientRect().height < 480);
  return [...document.querySelectorAll("body *")]
    .filter((e) => e.getBoundingClientRect().right > column + 1 && !e.closest("svg, .eqno"))
    .map((e) => `${e.tagName} ${e.textContent.trim().slice(0, 60)}`);
}

/** Fill in the page numbers of the contents. */
function number(pages) {
  for (const span of document.querySelectorAll(".contents .page"))
    span.textContent = pages[span.dataset.target] ?? "";
}

function headings() {
  return [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")]
    .map((heading) => heading.textContent.replace(/\s+/g, " ").trim());
}
