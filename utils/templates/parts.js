"use strict";
/* Parts that the sections of the page are made of. */

/** A drop-down list with a label; options are [value, text]. */
function chooser(key, options, value, onChange, more = {}) {
  const list = make(
    "select",
    { onchange: (event) => onChange(options[event.target.selectedIndex][0]), ...more },
    ...options.map(([, text]) => make("option", {}, text)),
  );
  list.selectedIndex = options.findIndex(([option]) => option === value);
  return make("label", {}, say(key), list);
}

/** A slider over a list of values. */
function slider(key, values, value, show, onChange, id) {
  const place = values.indexOf(value);
  const text = make("span", { class: "shown" }, show(value));
  const range = make("input", {
    type: "range",
    min: "0",
    max: String(values.length - 1),
    value: String(place),
    id,
    disabled: values.length < 2,
    oninput: (event) => {
      text.textContent = show(values[event.target.value]);
      onChange(values[event.target.value]);
    },
  });
  return make("label", { class: "wide" }, make("span", {}, say(key), ": ", text), range);
}

function empty(key) {
  return make("p", { class: "empty" }, ...withOptions(say(key)));
}

function hint(key, values) {
  return make("p", { class: "hint" }, ...withOptions(say(key, values)));
}

function keyValues(rows) {
  return make(
    "table",
    { class: "key-value" },
    make(
      "tbody",
      {},
      ...rows.map(([name, value]) =>
        make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)),
      ),
    ),
  );
}

function grid(heads, rows, kind = "") {
  return make(
    "div",
    { class: `scroll ${kind}`, tabindex: "0" },
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, ...rows),
    ),
  );
}

function block(title, ...parts) {
  return make("div", {}, make("h3", {}, title), ...parts);
}

const stepText = (step) =>
  step === null
    ? say("page.step.finished", { step: model().step === null ? "–" : number(model().step) })
    : say("page.step.training", { step: number(step) });

/** Something followed over training, with a list to choose the quantity from. */
function timelineOf(group, quantities) {
  const followed = model().followed;
  if (followed === null) {
    return empty("page.qkv.empty");
  }
  const chart = make("div", { id: `timeline-${group}` });
  const show = (quantity) => drawTimeline(chart, group, quantity, followed[group][quantity]);
  const box = make(
    "div",
    {},
    quantities.length < 2
      ? ""
      : make(
          "div",
          { class: "controls" },
          chooser(
            "page.choose.quantity",
            quantities.map((name) => [name, say(`page.quantity.${group}.${name}`)]),
            quantities[0],
            show,
            { "data-choose": `quantity-${group}` },
          ),
        ),
    chart,
  );
  afterwards(() => show(quantities[0]));
  return box;
}

/** One line for each name; of Q, K and V in one colour where they are of one attention. */
function drawTimeline(chart, group, quantity, table) {
  const traces = table.axes.name.map((name, i) => {
    const parts = name.split(".");
    const isVector = "qkv".includes(parts[parts.length - 1]);
    const text =
      parts.length > 2 && parts[2].endsWith("attn")
        ? attentionName(parts.slice(0, 3).join("."))
        : layerName(name);
    return line(
      table.axes.step.map(Number),
      table.values[i],
      isVector ? `${parts.pop().toUpperCase()} ${text}` : text,
      {
        line: {
          color: PALETTE[Math.floor(isVector ? i / 3 : i) % PALETTE.length],
          dash: isVector ? DASHES[i % 3] : DASHES[Math.floor(i / PALETTE.length) % DASHES.length],
        },
      },
    );
  });
  const rowsOfLegend = Math.ceil(traces.length / Math.max(1, Math.floor(chart.clientWidth / 230)));
  draw(chart, traces, {
    xaxis: axis(say("page.axis.step")),
    yaxis: axis(say(`page.quantity.${group}.${quantity}`)),
    showlegend: true,
    height: 420 + 22 * rowsOfLegend,
    legend: { orientation: "h", y: -0.2, yanchor: "top", font: { size: 0.7 * fontSize() } },
  });
}
