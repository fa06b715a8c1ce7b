// Plots by Bokeh: described in tools/explorer.py, filled and coloured here.

(function (explorer) {
  "use strict";

  const { ui } = explorer;

  // Sets what tags such as "line_color:mean" name, in the colours of the theme.
  function paint(plot) {
    for (const model of plot.references()) {
      for (const tag of model.tags ?? []) {
        const [property, colour] = String(tag).split(":");
        if (!colour) continue;
        const owner = property in model ? model : model.glyph;
        owner[property] = ui.colour(colour);
      }
    }
  }

  // Mounts a plot into a new node with a text for readers who cannot see it. Returns the node and
  // how to find the models by name, fill a source, set a range.
  async function mount(plots, name, parent, label) {
    const id = `explorer-plot-${name}`;
    const node = ui.element("div", { id, class: "plot", role: "img", "aria-label": label });
    parent.append(node);
    Bokeh.set_log_level("warn");
    await Bokeh.embed.embed_item(plots[name], id);
    const held = Bokeh.documents.at(-1);
    const [plot] = held.roots();
    const find = (model) => held.get_model_by_name(model);
    paint(plot);
    ui.onTheme(() => paint(plot));
    return {
      node,
      plot,
      find,
      fill: (source, data) => (find(source).data = data),
      range: (axis, start, end) => find(axis).setv({ start, end }),
      describe: (text) => node.setAttribute("aria-label", text),
    };
  }

  explorer.chart = Object.freeze({ mount });
})((globalThis.ilsExplorer ??= {}));
