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
