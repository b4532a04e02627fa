"use strict";
/* Sections 7 and 8: every operation, and both implementations point by point. */

function trace(into) {
  const found = model().trace;
  if (found === null) {
    into.append(empty("page.trace.empty"));
    return;
  }
  into.append(
    make(
      "p",
      { class: "legend" },
      ...[
        ["linear", "page.trace.linear"],
        ["nonlinear", "page.trace.nonlinear"],
      ].map(([kind, key]) => make("span", {}, make("span", { class: `kind ${kind}` }), say(key))),
    ),
    hint("page.trace.letters"),
    direction("page.trace.forward", found.forward, found, true),
    direction("page.trace.backward", found.backward, found, false),
  );
}

/** The operations of one direction in order, layer by layer. */
function direction(key, steps, found, isOpen) {
  const forward = new Map(found.forward.map((step) => [step.name, step]));
  const groups = byLayer(steps);
  return make(
    "details",
    { open: isOpen },
    make("summary", {}, say(key, { operations: String(steps.length) })),
    make(
      "div",
      { class: "inside" },
      ...groups.map((group) =>
        make(
          "details",
          { open: isOpen && group === groups[0] },
          make(
            "summary",
            {},
            group.name.includes(".")
              ? layerName(group.name)
              : say(`page.trace.group.${group.name}`),
            ` (${group.steps.length})`,
          ),
          make(
            "div",
            { class: "inside" },
            ...group.steps.map((step) => operation(step, forward.get(step.name))),
          ),
        ),
      ),
    ),
  );
}

/** Operations that follow one another in the same layer, or outside of all, together. */
function byLayer(steps) {
  const groups = [];
  for (const step of steps) {
    const [stack, place] = step.name.split(".");
    const name = /^\d+$/.test(place ?? "") ? `${stack}.${place}` : stack;
    if (!groups.length || groups[groups.length - 1].name !== name) {
      groups.push({ name, steps: [] });
    }
    groups[groups.length - 1].steps.push(step);
  }
  return groups;
}

function operation(step, forward) {
  const isLinear = forward.linear;
  const size = step.shape.join(" × ");
  const facts = [size, `μ ${number(step.mean, 2)}`, `σ ${number(step.std, 2)}`];
  if (step.flops) {
    facts.push(say("page.trace.flops", { flops: number(step.flops) }));
  }
  return make(
    "div",
    { class: "operation" },
    make("span", {
      class: `kind ${isLinear ? "linear" : "nonlinear"}`,
      role: "img",
      "aria-label": say(isLinear ? "page.trace.linear" : "page.trace.nonlinear"),
    }),
    make("span", DATA_TEXT, step.name),
    make(
      "code",
      DATA_TEXT,
      step.formula,
      step.section ? make("small", {}, `  § ${step.section}`) : "",
    ),
    make("span", { class: "numbers" }, facts.join(" · ")),
  );
}

const NOTHING = 1e-17; // where a difference of 0 is drawn on a logarithmic axis

function parity(into) {
  const found = DATA.comparison;
  if (!found) {
    into.append(empty("page.parity.empty"));
    return;
  }
  const bars = make("div", { id: "parity-bars" });
  const curves = make("div", { id: "paired-curves" });
  const gaps = make("div", { id: "paired-gaps" });
  into.append(
    block(say("page.parity.points_title"), bars),
    parityTable(found.parity),
    make(
      "div",
      { class: "columns" },
      block(say("page.parity.curves_title"), curves),
      block(say("page.parity.gaps_title"), gaps),
    ),
    ...found.paired_words.map((said) => make("p", {}, say(said.key, said.values))),
    block(say("page.parity.translations_title"), translationTable(found.translations)),
  );
  drawPoints(bars, found.parity);
  drawPairedCurves(curves, found.paired_training.losses);
  drawPairedGaps(gaps, found.paired_training.losses);
}

/** The difference at every point, and what is allowed there. */
function drawPoints(element, rows) {
  const at = (key) => ({
    x: rows.map((row) => row.point),
    y: rows.map((row) => (row[key] === null ? null : Math.max(row[key], NOTHING))),
  });
  const bar = (key, text, color) => ({
    type: "bar",
    ...at(key),
    name: say(text),
    marker: { color },
  });
  const limit = (key, text, dash) => ({
    type: "scatter",
    mode: "lines",
    ...at(key),
    name: say(text),
    line: { color: PALETTE[1], dash },
  });
  draw(
    element,
    [
      bar("max_abs_fp32", "page.parity.fp32", PALETTE[4]),
      bar("max_abs_fp64", "page.parity.fp64", PALETTE[0]),
      limit("tolerance", "page.parity.tolerance_fp32", "dot"),
      limit("tolerance_fp64", "page.parity.tolerance_fp64", "solid"),
    ],
    {
      barmode: "overlay",
      xaxis: axis(say("page.axis.point"), { showticklabels: false, showgrid: false }),
      yaxis: axis(say("page.axis.difference"), { ...LOGARITHMIC, dtick: 3 }),
      height: 420,
      hovermode: "x",
    },
  );
}

/** The losses of both trainings without dropout, one lying on the other. */
function drawPairedCurves(element, losses) {
  const steps = losses.pytorch_fp64.map((_, i) => i + 1);
  lines(
    element,
    [
      line(steps, losses.pytorch_fp64, "PyTorch", { mode: "lines" }),
      line(steps, losses.huggingface_fp64, "Hugging Face", { mode: "markers" }),
    ],
    say("page.axis.step"),
    say("page.axis.nats"),
  );
}

/** How far the losses are apart at each step, and those of two paths of the same code. */
function drawPairedGaps(element, losses) {
  const gap = (one, two, text) =>
    line(
      losses[one].map((_, i) => i + 1),
      losses[one].map((loss, i) => Math.max(Math.abs(loss - losses[two][i]), NOTHING)),
      say(text),
    );
  lines(
    element,
    [
      gap("pytorch_fp64", "huggingface_fp64", "page.parity.fp64"),
      gap("pytorch_fp32", "huggingface_fp32", "page.parity.fp32"),
      gap("pytorch_fp32", "pytorch_other_path_fp32", "page.parity.own_paths"),
    ],
    say("page.axis.step"),
    say("page.axis.difference"),
    { y: { ...LOGARITHMIC, dtick: 3 } },
  );
}

function parityTable(rows) {
  const heads = [
    "page.parity.column.point",
    "page.parity.column.fp64",
    "page.parity.column.fp32",
    "page.parity.column.tolerance",
    "page.parity.column.ok",
  ];
  return make(
    "details",
    { id: "parity-table" },
    make("summary", {}, say("page.parity.all_points", { points: String(rows.length) })),
    grid(
      heads.map((key) => say(key)),
      rows.map((row) =>
        make(
          "tr",
          {},
          make("th", { scope: "row", ...DATA_TEXT }, row.point),
          make("td", { class: "number" }, number(row.max_abs_fp64, 2)),
          make("td", { class: "number" }, number(row.max_abs_fp32, 2)),
          make("td", { class: "number" }, number(row.tolerance, 2)),
          make("td", { class: row.ok ? "right" : "bad" }, row.ok ? "✓" : "✗"),
        ),
      ),
    ),
  );
}

function translationTable(pairs) {
  return grid(
    [say("page.parity.source"), say("page.overview.reference"), "PyTorch", "Hugging Face"],
    pairs.map((pair) =>
      make(
        "tr",
        {},
        make("td", DATA_TEXT, pair.src),
        make("td", DATA_TEXT, pair.reference),
        make("td", DATA_TEXT, pair.pytorch),
        make(
          "td",
          { class: pair.pytorch === pair.huggingface ? "right" : "bad", ...DATA_TEXT },
          pair.huggingface,
        ),
      ),
    ),
  );
}
