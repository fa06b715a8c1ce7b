// The code of figures and tables waits behind one switch, beside the time to read, and not behind a bar
// for each cell. Code that teaches is always there. Without this script the bars are.
(() => {
  "use strict";
  const cells = document.querySelectorAll("details.hide.above-input");
  const line = document.querySelector("p.reading-time");
  if (!cells.length || !line) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "code-switch";
  let shown = true;
  const turn = () => {
    shown = !shown;
    document.documentElement.classList.toggle("code-away", !shown);
    for (const cell of cells) cell.open = shown;
    button.textContent = shown ? "Hide the code of figures and tables" : "Show all code";
  };
  button.addEventListener("click", turn);
  line.append(button);
  turn();
})();

// What an address leads to is unfolded, and so is the source of a test.
(() => {
  "use strict";
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const own = target?.matches(".statement-test") ? target.querySelector("details") : null;
    for (let node = own ?? target; node; node = node.parentElement) if (node.matches("details")) node.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
})();
