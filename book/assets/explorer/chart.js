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

  // Sets the font of every text. A canvas does not inherit one, and where Bokeh's own, Helvetica, is
  // not installed, it would be the browser's default: in Firefox one with serifs.
  function write(plot, font) {
    for (const model of plot.references())
      for (const property of Object.keys(model.properties))
        if (property.endsWith("text_font")) model[property] = font;
  }

  const brush = document.createElement("canvas").getContext("2d");

  // How wide a label is with another text.
  function width(label, text) {
    brush.font = `${label.text_font_style} ${label.text_font_size} ${label.text_font}`;
    return brush.measureText(text).width + 2 * label.padding;
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
    write(plot, getComputedStyle(node).fontFamily);
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

  explorer.chart = Object.freeze({ mount, width });
})((globalThis.ilsExplorer ??= {}));
