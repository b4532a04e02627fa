"use strict";
/* Section 4: queries, keys and values, one row of attention step by step. */

function qkv(into) {
  const row = arithmeticNow();
  if (row === null) {
    into.append(
      make("div", { class: "controls" }, ...attentionControls()),
      empty("page.qkv.left_out"),
    );
  } else {
    arithmetic(into, row);
  }
  into.append(
    block(
      say("page.qkv.timeline"),
      timelineOf("qkv", ["norm", "cosine_to_first", "effective_rank"]),
    ),
  );
}

function arithmetic(into, row) {
  const { queries, keys } = tokensOf(Chosen.attention, sentenceNow());
  const vectors = make("div", { id: "qk-vectors" });
  const values = make("div", { id: "v-vectors" });
  into.append(
    make("div", { class: "controls" }, ...attentionControls(), ...rowControls(row, queries, keys)),
    make(
      "ol",
      { class: "steps" },
      make(
        "li",
        {},
        say("page.qkv.step.product", {
          query: visible(queries[Chosen.query]),
          key: visible(keys[row.key]),
          product: fixed(row.products[row.key], 3),
        }),
        vectors,
      ),
      make(
        "li",
        {},
        say("page.qkv.step.scale", {
          width: String(row.q.length),
          root: fixed(row.root, 3),
          score: fixed(row.scores[row.key], 3),
        }),
      ),
      make(
        "li",
        {},
        say("page.qkv.step.softmax", {
          sum: number(row.sum, 4),
          weight: fixed(row.weights[row.key], 4),
        }),
        rowTable(row, keys),
      ),
      make("li", {}, say("page.qkv.step.values"), values),
    ),
  );
  const product = row.q.map((entry, i) => entry * row.keys[row.key][i]);
  strips(vectors, ["q", "k", "q × k"], [row.q, row.keys[row.key], product]);
  drawValues(values, row, keys);
}

function rowControls(row, queries, keys) {
  const numbered = (tokens) => tokens.map((token, i) => [i, `${i + 1}  ${visible(token)}`]);
  return [
    chooser(
      "page.choose.query",
      numbered(queries),
      Chosen.query,
      (query) => changed({ query, key: null }),
      { "data-choose": "query" },
    ),
    chooser("page.choose.key", numbered(keys), row.key, (key) => changed({ key }), {
      "data-choose": "key",
    }),
  ];
}

/** The values with the largest weights, each times its weight, and the sum of all. */
function drawValues(element, row, keys) {
  const largest = row.weights
    .map((_, j) => j)
    .filter(row.allowed)
    .sort((a, b) => row.weights[b] - row.weights[a])
    .slice(0, 4);
  strips(
    element,
    [
      ...largest.map((j) => `${fixed(row.weights[j], 2)} × v(${visible(keys[j])})`),
      say("page.qkv.context"),
    ],
    [...largest.map((j) => row.values[j].map((entry) => entry * row.weights[j])), row.context],
  );
}

/** Vectors as rows of coloured cells, one column for each of the d_k entries. */
function strips(element, names, rows) {
  const largest = Math.max(...rows.flat().map(Math.abs));
  draw(
    element,
    [
      heatmap(rows, {
        zmin: -largest,
        zmax: largest,
        colorscale: diverging(),
        text: rows.map((row) => row.map((value) => number(value, 4))),
        hovertemplate: "%{x}: %{text}<extra></extra>",
        x: rows[0].map((_, i) => i + 1),
      }),
    ],
    {
      xaxis: axis(say("page.axis.entry"), { showgrid: false, zeroline: false }),
      yaxis: axis("", {
        tickvals: names.map((_, i) => i),
        ticktext: names.map(plain),
        autorange: "reversed",
        showgrid: false,
        zeroline: false,
      }),
      height: 120 + 30 * rows.length,
    },
  );
}

function rowTable(row, keys) {
  const heads = [
    "page.attention.key",
    "page.qkv.column.product",
    "page.qkv.column.scaled",
    "page.qkv.column.mask",
    "page.qkv.column.exp",
    "page.qkv.column.weight",
  ];
  const table = grid(
    heads.map((key) => say(key)),
    keys.map((token, j) =>
      make(
        "tr",
        { class: j === row.key ? "chosen" : null },
        make("th", { scope: "row", ...DATA_TEXT }, token),
        ...[
          fixed(row.products[j], 3),
          fixed(row.scores[j], 3),
          row.allowed(j) ? "✓" : "−∞",
          number(row.exponentials[j], 3),
          fixed(row.weights[j], 4),
        ].map((text) => make("td", { class: "number" }, text)),
      ),
    ),
    "of-tokens",
  );
  table.id = "row-table";
  return table;
}
