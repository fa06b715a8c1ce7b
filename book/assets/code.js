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

// What an address leads to is unfolded, and so is the source of a test. What has moved to another
// page is looked up there.
(() => {
  "use strict";
  const here = document.currentScript.src;
  const follow = (name) => {
    const script = document.createElement("script");
    script.src = new URL("previews/places.js", here);
    script.onload = () => {
      const page = globalThis.PLACES[name];
      if (page) location.replace(new URL(`../${page}#${name}`, here));
    };
    document.head.append(script);
  };
  const unfold = () => {
    const name = decodeURIComponent(location.hash.slice(1));
    const target = document.getElementById(name);
    if (!target && /^[a-z][\w-]*$/.test(name)) follow(name);
    const own = target?.matches(".statement-test") ? target.querySelector("details") : null;
    for (let node = own ?? target; node; node = node.parentElement) if (node.matches("details")) node.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
})();
