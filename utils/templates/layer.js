"use strict";
/* Sections 5 and 6: inside the layers, and the gradients that reach them. */

function layer(into) {
  const { inside } = model();
  const used = make("div", { id: "ffn-use" });
  const histogram = make("div", { id: "ffn-histogram" });
  const ways = make("div", { id: "ways" });
  const names = Object.keys(inside.ways);
  into.append(
    block(say("page.layer.lens_title"), hint("page.layer.lens_hint"), lensTable(inside.lens)),
    make(
      "div",
      { class: "columns" },
      block(say("page.layer.ffn_title"), used),
      block(say("page.layer.histogram_title"), histogram),
      block(say("page.layer.residual_title"), timelineOf("residual", ["norm"])),
      block(
        say("page.layer.ways_title"),
        make(
          "div",
          { class: "controls" },
          chooser(
            "page.choose.ways",
            names.map((name) => [name, say(`page.ways.${name}`)]),
            names[0],
            (name) => showWays(ways, inside.ways[name]),
            { "data-choose": "ways" },
          ),
        ),
        ways,
      ),
      block(
        say("page.layer.neurons_title"),
        inside.neurons.length ? neuronTable(inside.neurons) : empty("page.layer.no_neurons"),
      ),
      block(
        say("page.layer.neighbours_title"),
        inside.neighbours.length
          ? neighbourTable(inside.neighbours)
          : empty("page.layer.no_neighbours"),
      ),
    ),
  );
  drawUse(used, inside.ffn);
  drawHistogram(histogram, inside.ffn.activation);
  showWays(ways, inside.ways[names[0]]);
}

/** How much of each feed-forward network stays silent. */
function drawUse(element, { sparsity, dead }) {
  draw(
    element,
    [
      [sparsity, "page.layer.silent"],
      [dead, "page.layer.dead"],
    ].map(([table, key]) => ({
      type: "bar",
      x: table.axes.layer.map(layerName),
      y: table.values.map((value) => 100 * value),
      name: say(key),
    })),
    { xaxis: axis(""), yaxis: axis("%", { range: [0, 100] }), barmode: "group" },
  );
}

/** What enters the activation function, by layer. */
function drawHistogram(element, activation) {
  const edges = activation.axes.bin.map(parseFloat);
  lines(
    element,
    activation.axes.layer.map((name, i) =>
      line(
        edges,
        activation.values[i].map((value) => 100 * value),
        layerName(name),
        { mode: "lines", line: { shape: "hv", color: PALETTE[i % PALETTE.length] } },
      ),
    ),
    say("page.axis.pre_activation"),
    say("page.axis.share"),
  );
}

function lensTable(lens) {
  const positions = lens.right_rank.axes.position;
  return grid(
    [say("page.layer.lens_after"), ...positions.map((token) => make("span", DATA_TEXT, token))],
    lens.tokens.map((line, i) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, layerName(lens.right_rank.axes.layer[i])),
        ...line.map((token, t) =>
          make(
            "td",
            {
              class: lens.right_rank.values[i][t] === 1 ? "right" : null,
              ...DATA_TEXT,
              title: say("page.layer.lens_cell", {
                probability: fixed(lens.probability.values[i][t], 3),
                rank: number(lens.right_rank.values[i][t]),
              }),
            },
            token,
            make("br"),
            make("small", {}, `${fixed(100 * lens.probability.values[i][t], 0)} %`),
          ),
        ),
      ),
    ),
    "of-tokens",
  );
}

function showWays(element, way) {
  draw(
    element,
    way.tokens.map((token, i) => {
      const points = way.coordinates[i];
      return {
        type: "scatter",
        mode: "lines+markers+text",
        x: points.map((point) => point[0]),
        y: points.map((point) => point[1]),
        name: plain(token),
        text: points.map((_, s) => (s === points.length - 1 ? plain(token) : "")),
        textposition: "top center",
        marker: { size: points.map((_, s) => 4 + (4 * s) / points.length) },
        customdata: way.steps.map((step) => plain(stateName(step))),
        hovertemplate: "%{customdata}<extra>%{fullData.name}</extra>",
        line: { width: 1 },
      };
    }),
    {
      xaxis: axis(
        say("page.axis.component", { number: "1", share: fixed(100 * way.explained_shares[0], 0) }),
      ),
      yaxis: axis(
        say("page.axis.component", { number: "2", share: fixed(100 * way.explained_shares[1], 0) }),
      ),
      showlegend: false,
      hovermode: "closest",
      height: 460,
    },
  );
}

function neuronTable(neurons) {
  return grid(
    [
      "page.layer.column.layer",
      "page.layer.column.unit",
      "page.layer.column.selectivity",
      "page.layer.column.tokens",
    ].map((key) => say(key)),
    neurons.map((neuron) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, layerName(neuron.layer)),
        make("td", { class: "number" }, String(neuron.unit + 1)),
        make("td", { class: "number" }, fixed(neuron.selectivity, 2)),
        make("td", {}, ...together(neuron.tokens, (value) => number(value, 2))),
      ),
    ),
  );
}

function neighbourTable(neighbours) {
  return grid(
    ["page.layer.column.token", "page.layer.column.nearest"].map((key) => say(key)),
    neighbours.map((one) =>
      make(
        "tr",
        {},
        make("th", { scope: "row", ...DATA_TEXT }, one.token),
        make("td", {}, ...together(one.nearest, (cosine) => fixed(cosine, 2))),
      ),
    ),
  );
}

/** Tokens with a number each, which a line's end never parts. */
function together(pairs, show) {
  return pairs.flatMap(([token, value]) => [
    make("span", { class: "pair", ...DATA_TEXT }, token, " ", make("small", {}, show(value))),
    " ",
  ]);
}

function gradients(into) {
  if (model().followed === null) {
    into.append(empty("page.qkv.empty"));
    return;
  }
  const { gradient_norm: norms, update_ratio: ratios } = model().followed.weights;
  const map = make("div", { id: "gradient-map" });
  const updates = make("div", { id: "update-lines" });
  const steps = norms.axes.step;
  const last = steps[steps.length - 1];
  into.append(
    make(
      "div",
      { class: "controls" },
      slider(
        "page.choose.step",
        steps,
        last,
        (step) => say("page.step.training", { step: number(Number(step)) }),
        (step) => drawGradients(map, norms, step),
        "gradient-slider",
      ),
    ),
    block(say("page.gradients.map_title"), map),
    make(
      "div",
      { class: "columns" },
      block(say("page.gradients.flow_title"), timelineOf("residual", ["gradient_norm"])),
      block(say("page.gradients.update_title"), updates),
    ),
  );
  drawGradients(map, norms, last);
  drawUpdates(updates, ratios);
}

/** The norm of the gradient at one step, by layer and site. */
function drawGradients(element, norms, step) {
  const place = norms.axes.step.indexOf(step);
  const values = norms.values.map((row) => row.map((site) => site[place]));
  draw(
    element,
    [
      heatmap(
        values.map((row) => row.map((value) => (value > 0 ? Math.log10(value) : null))),
        {
          x: norms.axes.site.map((site) => say(`page.site.${site}`)),
          y: norms.axes.layer.map(layerName),
          text: values.map((row) => row.map((value) => number(value, 2))),
          texttemplate: norms.axes.layer.length * norms.axes.site.length > 120 ? "" : "%{text}",
          hovertemplate: "%{y}, %{x}: %{text}<extra></extra>",
          colorbar: { thickness: 10, outlinewidth: 0, title: { text: "log₁₀", side: "top" } },
        },
      ),
    ],
    {
      xaxis: axis(say("page.axis.site"), { tickangle: -45, showgrid: false }),
      yaxis: axis("", { autorange: "reversed", showgrid: false }),
      height: 200 + 34 * norms.axes.layer.length,
    },
  );
}

/** What a step changes, by site: the mean over the layers that have it. */
function drawUpdates(element, ratios) {
  const { step: steps, site: sites } = ratios.axes;
  const traces = sites
    .map((site, j) => {
      const y = steps.map((_, s) => {
        const known = ratios.values
          .map((row) => row[j][s])
          .filter((value) => value !== null && value > 0);
        return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
      });
      return line(steps.map(Number), y, say(`page.site.${site}`), {
        line: { color: PALETTE[j % PALETTE.length], dash: DASHES[Math.floor(j / PALETTE.length)] },
      });
    })
    .filter((trace) => trace.y.some((value) => value !== null));
  draw(element, traces, {
    xaxis: axis(say("page.axis.step")),
    yaxis: axis(say("page.axis.update"), LOGARITHMIC),
    height: 420,
    legend: { orientation: "h", y: -0.2, yanchor: "top", font: { size: 0.7 * fontSize() } },
  });
}
