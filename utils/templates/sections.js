"use strict";
/* The sections of the page: each fills its element from the results. */

/** A drop-down list with a label; options are [value, text]. */
function chooser(key, options, value, onChange, more = {}) {
  const list = make("select", { onchange: (event) => onChange(options[event.target.selectedIndex][0]), ...more },
    ...options.map(([, text]) => make("option", {}, text)));
  list.selectedIndex = options.findIndex(([option]) => option === value);
  return make("label", {}, say(key), list);
}

/** A slider over a list of values. */
function slider(key, values, value, show, onChange, id) {
  const place = values.indexOf(value);
  const text = make("span", { class: "shown" }, show(value));
  const range = make("input", {
    type: "range", min: "0", max: String(values.length - 1), value: String(place), id, disabled: values.length < 2,
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
  return make("table", { class: "key-value" }, make("tbody", {},
    ...rows.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)))));
}

function grid(heads, rows, kind = "") {
  return make("div", { class: `scroll ${kind}`, tabindex: "0" }, make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, ...rows)));
}

function block(title, ...parts) {
  return make("div", {}, make("h3", {}, title), ...parts);
}

const stepText = (step) => (step === null
  ? say("page.step.finished", { step: model().step === null ? "–" : number(model().step) })
  : say("page.step.training", { step: number(step) }));

/* 1. Overview ------------------------------------------------------------------------------- */

const PERCENT = ["exact_match", "token_accuracy"];
const METRICS = ["eval_nll", "eval_ppl", "train_nll", "eval_nll_other_source", "token_accuracy", "bleu", "chrf", "exact_match", "aer"];
const SPEED = ["train_tokens_per_sec", "train_seconds", "decode_sentences_per_sec", "peak_memory_mb", "tracking_overhead"];

function metric(name, value) {
  if (value === null || value === undefined) {
    return "–";
  }
  return PERCENT.includes(name) || name === "tracking_overhead" ? `${fixed(100 * value, 1)} %` : number(value, 4);
}

function overview(into) {
  const columns = make("div", { class: "columns" });
  into.append(columns);
  const { summary, samples } = model();
  if (DATA.comparison) {
    columns.append(block(say("page.overview.side_by_side"), sideBySide()));
  } else if (summary.metrics) {
    columns.append(block(say("page.overview.results"), keyValues([
      ...METRICS.filter((name) => name in summary.metrics).map((name) => [say(`page.metric.${name}`), metric(name, summary.metrics[name])]),
      ...SPEED.filter((name) => name in summary.speed).map((name) => [say(`page.metric.${name}`), metric(name, summary.speed[name])]),
    ])));
  }
  if (summary.evaluation) {
    columns.append(block(say("page.overview.evaluated", { dataset: summary.evaluation.dataset }), keyValues(
      METRICS.map((name) => [name, summary.evaluation[name.replace("eval_nll", "nll")]]).filter(([, value]) => value !== undefined)
        .map(([name, value]) => [say(`page.metric.${name}`), metric(name, value)]))));
  }
  for (const [kind, look] of [["best", "good"], ["worst", "poor"]]) {
    if (samples[kind].length) {
      columns.append(block(say(`page.overview.${kind}`), ...samples[kind].map((sample) => sampleOf(sample, look))));
    }
  }
  if (!samples.best.length) {
    columns.append(block(say("page.overview.sentences"), ...attentionOf().sentences.map((sentence) =>
      make("div", { class: "sample" }, make("p", {}, sentence.src), make("p", {}, "→ ", sentence.tgt)))));
  }
  if (summary.config) {
    const shown = Object.entries(summary.config).filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && !value.length));
    columns.append(make("details", {}, make("summary", {}, say("page.overview.options")),
      keyValues(shown.map(([name, value]) => [`--${name}`, String(value)]))));
    columns.append(make("details", {}, make("summary", {}, say("page.overview.environment")), keyValues([
      ...Object.entries(summary.environment).map(([name, value]) => [name, String(value)]),
      ...Object.entries(summary.dataset).map(([name, value]) => [say(`page.dataset.${name}`), typeof value === "number" ? number(value) : String(value)]),
    ])));
  }
}

function sampleOf(sample, look) {
  return make("div", { class: `sample ${look}` },
    make("p", {}, sample.src), make("p", {}, "→ ", sample.hypothesis),
    sample.hypothesis === sample.reference
      ? make("p", { class: "of" }, say("page.overview.equal"))
      : make("p", { class: "of" }, say("page.overview.reference"), ": ", sample.reference, ` (chrF ${fixed(sample.chrf, 0)})`));
}

function sideBySide() {
  const { metrics, speed } = DATA.comparison;
  const rows = [
    ...METRICS.filter((name) => name in metrics.pytorch).map((name) => [name, metrics]),
    ...SPEED.filter((name) => name in speed.pytorch).map((name) => [name, speed]),
    ["parameters", metrics], ["code_lines", metrics],
  ];
  return grid(["", "PyTorch", "Hugging Face"], rows.map(([name, of]) => make("tr", {}, make("th", { scope: "row" }, say(`page.metric.${name}`)),
    ...["pytorch", "huggingface"].map((version) => make("td", { class: "number" }, metric(name, of[version][name]))))));
}

/* 2. Training ------------------------------------------------------------------------------- */

const versionName = (version) => ({ pytorch: "PyTorch", huggingface: "Hugging Face" })[version] ?? "";

/** One curve of each model: quantities are [kind of line, name, text]. */
function curvesOf(quantities, more = {}) {
  const shown = DATA.comparison ? DATA.models : [model()];
  return shown.flatMap((one, m) => quantities.map(([kind, name, text], i) => {
    const whose = shown.length > 1 ? `${versionName(one.version)}: ` : "";
    const { step, [name]: values } = one.curves[kind];
    return line(step, values, `${whose}${text}`, {
      line: { color: PALETTE[shown.length > 1 ? m + 2 * i : i], dash: DASHES[m] }, mode: kind === "eval" ? "lines+markers" : "lines", ...more });
  })).filter((trace) => trace.y.some((value) => value !== null && value !== undefined));
}

function training(into) {
  if (!model().curves.train.step.length) {
    into.append(empty("page.training.empty"));
    return;
  }
  const step = say("page.axis.step");
  const charts = [
    ["loss", say("page.axis.nats"), [["train", "loss", say("page.training.train_loss")], ["eval", "nll", say("page.training.eval_nll")],
      ["eval", "nll_other_source", say("page.training.other_source")]]],
    ["quality", say("page.axis.score"), [["eval", "bleu", "BLEU"], ["eval", "chrf", "chrF"], ["eval", "exact_match", say("page.metric.exact_match")]]],
    ["rate", say("page.training.rate_axis"), [["train", "lr", say("page.training.rate_axis")]]],
    ["speed", say("page.metric.train_tokens_per_sec"), [["speed", "tokens_per_sec", say("page.metric.train_tokens_per_sec")]]],
    ["gradient", say("page.training.gradient_axis"), [["train", "grad_norm", say("page.training.gradient_axis")]]],
  ];
  const columns = make("div", { class: "columns" });
  into.append(columns);
  for (const [name, y, quantities] of charts) {
    const element = make("div", { id: `chart-${name}` });
    const traces = curvesOf(quantities);
    if (traces.length) {
      columns.append(block(say(`page.training.chart.${name}`), element));
      if (name === "quality") { // as a percentage, like the others
        traces.filter((trace) => trace.name.includes(plain(say("page.metric.exact_match")))).forEach((trace) => {
          trace.y = trace.y.map((value) => (value === null ? null : 100 * value));
        });
      }
      afterwards(() => lines(element, traces, step, y, { y: name === "gradient" ? { type: "log" } : {} }));
    }
  }
  const { of, step: steps } = model().curves.train;
  if (of > steps.length) {
    into.append(hint("page.training.thinned", { shown: number(steps.length), all: number(of) }));
  }
}

/* 3. Attention ------------------------------------------------------------------------------ */

function changed(change) {
  Object.assign(Chosen, change);
  settle();
  redraw("attention", "qkv");
}

function attentionControls() {
  const { names, sentences } = attentionOf();
  const heads = unpack(attentionOf().finished[Chosen.attention][0]).shape[0];
  return [
    chooser("page.choose.sentence", sentences.map((sentence, i) => [i, visible(sentence.src)]), Chosen.sentence,
      (sentence) => changed({ sentence, query: 0, key: null }), { "data-choose": "sentence" }),
    chooser("page.choose.attention", names.map((name) => [name, attentionName(name)]), Chosen.attention,
      (attention) => changed({ attention, key: null }), { "data-choose": "attention" }),
    chooser("page.choose.head", Array.from({ length: heads }, (_, i) => [i, String(i + 1)]), Chosen.head,
      (head) => changed({ head, key: null }), { "data-choose": "head" }),
  ];
}

function attention(into) {
  const sentence = sentenceNow();
  const shown = { view: make("div", { id: "token-view" }), row: make("div", { id: "row-numbers" }), map: make("div", { id: "attention-map" }) };
  const isCross = Chosen.attention.endsWith("cross_attn");
  const gold = isCross && sentence.gold;
  const steps = stepsNow();
  into.append(make("div", { class: "controls" }, ...attentionControls(),
    slider("page.choose.step", steps, Chosen.step, stepText, (step) => { Chosen.step = step; showMap(shown); }, "step-slider"),
    gold ? make("label", { class: "inline" }, make("input", {
      type: "checkbox", id: "gold", checked: Chosen.gold, onchange: (event) => { Chosen.gold = event.target.checked; showMap(shown); },
    }), say("page.attention.gold")) : ""));
  if (steps.length < 2) {
    into.append(hint(attentionOf().over_training.length ? "page.attention.only_finished" : "page.attention.not_followed"));
  }
  into.append(make("div", { class: "columns" },
    block(say("page.attention.lines"), shown.view),
    block(say("page.attention.row_title"), shown.row),
    block(say("page.attention.map_title"), shown.map)));
  into.append(block(say("page.attention.heads"), hint("page.attention.heads_hint"), headGrid()));
  shown.tokens = new TokenView(shown.view, (query) => { Chosen.query = query; showRow(shown); });
  showMap(shown);
}

function axisNames(name) {
  const [stack, , site] = name.split(".");
  return stack === "encoder" ? [say("page.axis.encoder_query"), say("page.axis.encoder_key")]
    : [say("page.axis.decoder_query"), say(site === "cross_attn" ? "page.axis.cross_key" : "page.axis.decoder_key")];
}

function showMap(shown) {
  const weights = mapNow().matrix(Chosen.head);
  const { queries, keys } = tokensOf(Chosen.attention, sentenceNow());
  const names = axisNames(Chosen.attention);
  const isCross = Chosen.attention.endsWith("cross_attn");
  shown.weights = weights;
  shown.keys = keys;
  shown.queries = queries;
  shown.tokens.show({ weights, queries, keys, names, query: Chosen.query, gold: isCross && Chosen.gold ? sentenceNow().gold : null });
  draw(shown.map, [heatmap(weights, {
    zmin: 0, zmax: 1, text: weights.map((row, q) => row.map((weight, k) => `${plain(queries[q])} → ${plain(keys[k])}<br>${fixed(weight, 4)}`)),
    hoverinfo: "text",
  })], {
    xaxis: tokenAxis(names[1], keys, { tickangle: -60 }), yaxis: tokenAxis(names[0], queries, { autorange: "reversed" }),
    height: Math.max(340, 24 * queries.length + 160),
  });
}

/** The row of the query pointed at, as numbers. */
function showRow(shown) {
  const row = shown.weights[Chosen.query];
  const entropy = -row.reduce((sum, p) => sum + (p > 0 ? p * Math.log(p) : 0), 0);
  const most = row.indexOf(Math.max(...row));
  shown.row.replaceChildren(
    hint("page.attention.row_of", {
      query: visible(shown.queries[Chosen.query]), key: visible(shown.keys[most]), entropy: fixed(entropy, 2), step: stepText(Chosen.step),
    }),
    grid([say("page.attention.key"), say("page.attention.weight")], row.map((weight, k) => make("tr", { class: k === most ? "chosen" : null },
      make("th", { scope: "row" }, shown.keys[k]),
      make("td", { class: "number" }, fixed(weight, 4), " ", make("span", { class: "bar", style: `width: ${(5 * weight).toFixed(2)}em` })))), "of-tokens"));
}

function headGrid() {
  const { names } = attentionOf();
  const heads = Math.max(...names.map((name) => unpack(attentionOf().finished[name][0]).shape[0]));
  const facts = names.map((name) => Array.from({ length: heads }, (_, head) => headFacts(name, head)));
  const widest = Math.max(...facts.flat().map((fact) => fact.entropy ?? 0));
  const rows = names.map((name, i) => make("tr", {}, make("th", { scope: "row" }, attentionName(name)),
    ...facts[i].map((fact, head) => {
      const isChosen = name === Chosen.attention && head === Chosen.head;
      const strength = Math.round(45 * (1 - (fact.entropy ?? 0) / (widest || 1)));
      return make("td", { class: isChosen ? "chosen" : null, style: `background: color-mix(in srgb, var(--accent) ${strength}%, transparent)` },
        make("button", {
          type: "button", "data-head": `${name}/${head}`, "aria-label": say("page.attention.head_label", {
            attention: attentionName(name), head: String(head + 1), entropy: fixed(fact.entropy, 2), aer: fixed(fact.aer, 3) }),
          onclick: () => { changed({ attention: name, head, key: null }); document.querySelector(`[data-head="${name}/${head}"]`)?.focus(); },
        }, `H ${fixed(fact.entropy, 2)}`,
        fact.aer === null ? "" : make("small", {}, `AER ${fixed(fact.aer, 2)}`),
        fact.ablation === null ? "" : make("small", {}, `Δ ${fixed(fact.ablation, 2)}`)));
    })));
  return grid(["", ...Array.from({ length: heads }, (_, i) => say("page.attention.head", { head: String(i + 1) }))], rows, "heads");
}

/* 4. Q, K, V -------------------------------------------------------------------------------- */

function qkv(into) {
  const row = arithmeticNow();
  if (row === null) {
    into.append(make("div", { class: "controls" }, ...attentionControls()), empty("page.qkv.left_out"));
  } else {
    arithmetic(into, row);
  }
  into.append(block(say("page.qkv.timeline"), timelineOf("qkv", ["norm", "cosine_to_first", "effective_rank"])));
}

function arithmetic(into, row) {
  const { queries, keys } = tokensOf(Chosen.attention, sentenceNow());
  into.append(make("div", { class: "controls" }, ...attentionControls(),
    chooser("page.choose.query", queries.map((token, i) => [i, `${i + 1}  ${visible(token)}`]), Chosen.query,
      (query) => changed({ query, key: null }), { "data-choose": "query" }),
    chooser("page.choose.key", keys.map((token, i) => [i, `${i + 1}  ${visible(token)}`]), row.key,
      (key) => changed({ key }), { "data-choose": "key" })));
  const vectors = make("div", { id: "qk-vectors" });
  const values = make("div", { id: "v-vectors" });
  const product = row.q.map((entry, i) => entry * row.keys[row.key][i]);
  into.append(make("ol", { class: "steps" },
    make("li", {}, say("page.qkv.step.product", { query: visible(queries[Chosen.query]), key: visible(keys[row.key]), product: fixed(row.products[row.key], 3) }), vectors),
    make("li", {}, say("page.qkv.step.scale", { width: String(row.q.length), root: fixed(row.root, 3), score: fixed(row.scores[row.key], 3) })),
    make("li", {}, say("page.qkv.step.softmax", { sum: number(row.sum, 4), weight: fixed(row.weights[row.key], 4) }), rowTable(row, keys)),
    make("li", {}, say("page.qkv.step.values"), values)));
  strips(vectors, ["q", "k", "q × k"], [row.q, row.keys[row.key], product]);
  const order = row.weights.map((_, j) => j).filter(row.allowed).sort((a, b) => row.weights[b] - row.weights[a]).slice(0, 4);
  strips(values, [...order.map((j) => `${fixed(row.weights[j], 2)} × v(${visible(keys[j])})`), say("page.qkv.context")],
    [...order.map((j) => row.values[j].map((entry) => entry * row.weights[j])), row.context]);
}

/** Vectors as rows of coloured cells, one column for each of the d_k entries. */
function strips(element, names, rows) {
  const largest = Math.max(...rows.flat().map(Math.abs));
  draw(element, [heatmap(rows, {
    zmin: -largest, zmax: largest, colorscale: diverging(), text: rows.map((row) => row.map((value) => number(value, 4))), hovertemplate: "%{x}: %{text}<extra></extra>",
    x: rows[0].map((_, i) => i + 1),
  })], {
    xaxis: axis(say("page.axis.entry"), { showgrid: false, zeroline: false }),
    yaxis: axis("", { tickvals: names.map((_, i) => i), ticktext: names.map(plain), autorange: "reversed", showgrid: false, zeroline: false }),
    height: 120 + 30 * rows.length,
  });
  element.classList.add("low");
}

function rowTable(row, keys) {
  const heads = ["page.attention.key", "page.qkv.column.product", "page.qkv.column.scaled", "page.qkv.column.mask", "page.qkv.column.exp", "page.qkv.column.weight"];
  const table = grid(heads.map((key) => say(key)), keys.map((token, j) => make("tr", { class: j === row.key ? "chosen" : null },
    make("th", { scope: "row" }, token),
    ...[fixed(row.products[j], 3), fixed(row.scores[j], 3), row.allowed(j) ? "✓" : "−∞", number(row.exponentials[j], 3), fixed(row.weights[j], 4)]
      .map((text) => make("td", { class: "number" }, text)))), "of-tokens");
  table.id = "row-table";
  return table;
}

/** Something followed over training, with a list to choose the quantity from. */
function timelineOf(group, quantities) {
  const followed = model().followed;
  if (followed === null) {
    return empty("page.qkv.empty");
  }
  const chart = make("div", { class: "tall", id: `timeline-${group}` });
  const show = (quantity) => {
    const table = followed[group][quantity];
    const traces = table.axes.name.map((name, i) => {
      const parts = name.split(".");
      const isVector = "qkv".includes(parts[parts.length - 1]);
      const text = parts.length > 2 && parts[2].endsWith("attn") ? attentionName(parts.slice(0, 3).join(".")) : layerName(name);
      return line(table.axes.step.map(Number), table.values[i], isVector ? `${parts.pop().toUpperCase()} ${text}` : text,
        { line: { color: PALETTE[Math.floor(isVector ? i / 3 : i) % PALETTE.length], dash: isVector ? DASHES[i % 3] : DASHES[Math.floor(i / PALETTE.length) % 4] } });
    });
    draw(chart, traces, {
      xaxis: axis(say("page.axis.step")), yaxis: axis(say(`page.quantity.${group}.${quantity}`)), showlegend: true,
      height: 420 + 22 * Math.ceil(traces.length / Math.max(1, Math.floor(chart.clientWidth / 230))),
      legend: { orientation: "h", y: -0.2, yanchor: "top", font: { size: 11 } },
    });
  };
  const box = make("div", {}, quantities.length < 2 ? "" : make("div", { class: "controls" },
    chooser("page.choose.quantity", quantities.map((name) => [name, say(`page.quantity.${group}.${name}`)]), quantities[0],
      show, { "data-choose": `quantity-${group}` })), chart);
  afterwards(() => show(quantities[0]));
  return box;
}

/* 5. Inside a layer ------------------------------------------------------------------------- */

function layer(into) {
  const { inside } = model();
  const used = make("div", { id: "ffn-use" });
  const histogram = make("div", { id: "ffn-histogram" });
  const ways = make("div", { class: "tall", id: "ways" });
  const names = Object.keys(inside.ways);
  into.append(block(say("page.layer.lens_title"), hint("page.layer.lens_hint"), lensTable(inside.lens)));
  into.append(make("div", { class: "columns" },
    block(say("page.layer.ffn_title"), used),
    block(say("page.layer.histogram_title"), histogram),
    block(say("page.layer.residual_title"), timelineOf("residual", ["norm"])),
    block(say("page.layer.ways_title"), make("div", { class: "controls" },
      chooser("page.choose.ways", names.map((name) => [name, say(`page.ways.${name}`)]), names[0],
        (name) => showWays(ways, inside.ways[name]), { "data-choose": "ways" })), ways),
    block(say("page.layer.neurons_title"), inside.neurons.length ? neuronTable(inside.neurons) : empty("page.layer.no_neurons")),
    block(say("page.layer.neighbours_title"), inside.neighbours.length ? neighbourTable(inside.neighbours) : empty("page.layer.no_neighbours"))));
  const { sparsity, dead, activation } = inside.ffn;
  const layers = sparsity.axes.layer.map(layerName);
  draw(used, [[sparsity, "page.layer.silent"], [dead, "page.layer.dead"]].map(([table, key]) => (
    { type: "bar", x: layers, y: table.values.map((value) => 100 * value), name: say(key) })),
  { xaxis: axis(""), yaxis: axis("%", { range: [0, 100] }), barmode: "group" });
  const edges = activation.axes.bin.map(parseFloat);
  lines(histogram, layers.map((name, i) => line(edges, activation.values[i].map((value) => 100 * value), name, { mode: "lines", line: { shape: "hv", color: PALETTE[i % PALETTE.length] } })),
    say("page.axis.pre_activation"), say("page.axis.share"));
  showWays(ways, inside.ways[names[0]]);
}

function lensTable(lens) {
  const positions = lens.right_rank.axes.position;
  return grid([say("page.layer.lens_after"), ...positions], lens.tokens.map((line, i) => make("tr", {},
    make("th", { scope: "row" }, layerName(lens.right_rank.axes.layer[i])),
    ...line.map((token, t) => make("td", {
      class: lens.right_rank.values[i][t] === 1 ? "right" : null,
      title: say("page.layer.lens_cell", { probability: fixed(lens.probability.values[i][t], 3), rank: number(lens.right_rank.values[i][t]) }),
    }, token, make("br"), make("small", {}, `${fixed(100 * lens.probability.values[i][t], 0)} %`))))), "of-tokens");
}

function showWays(element, way) {
  draw(element, way.tokens.map((token, i) => {
    const points = way.coordinates[i];
    return {
      type: "scatter", mode: "lines+markers+text", x: points.map((point) => point[0]), y: points.map((point) => point[1]), name: plain(token),
      text: points.map((_, s) => (s === points.length - 1 ? plain(token) : "")), textposition: "top center",
      marker: { size: points.map((_, s) => 4 + (4 * s) / points.length) }, customdata: way.steps.map((step) => plain(stateName(step))),
      hovertemplate: "%{customdata}<extra>%{fullData.name}</extra>", line: { width: 1 },
    };
  }), {
    xaxis: axis(say("page.axis.component", { number: "1", share: fixed(100 * way.explained_shares[0], 0) })),
    yaxis: axis(say("page.axis.component", { number: "2", share: fixed(100 * way.explained_shares[1], 0) })), showlegend: false, hovermode: "closest", height: 460,
  });
}

function stateName(label) {
  const [kind, place] = label.split(" ");
  return /^\d+$/.test(place ?? "") ? say(`label.state.${kind}`, { number: place }) : say(`label.state.${label.replace(" ", "_")}`);
}

function neuronTable(neurons) {
  return grid(["page.layer.column.layer", "page.layer.column.unit", "page.layer.column.selectivity", "page.layer.column.tokens"].map((key) => say(key)),
    neurons.map((neuron) => make("tr", {}, make("th", { scope: "row" }, layerName(neuron.layer)), make("td", { class: "number" }, String(neuron.unit)),
      make("td", { class: "number" }, fixed(neuron.selectivity, 2)),
      make("td", {}, ...together(neuron.tokens, (value) => number(value, 2))))));
}

function neighbourTable(neighbours) {
  return grid(["page.layer.column.token", "page.layer.column.nearest"].map((key) => say(key)), neighbours.map((one) => make("tr", {},
    make("th", { scope: "row" }, one.token), make("td", {}, ...together(one.nearest, (cosine) => fixed(cosine, 2))))));
}

/** Tokens with a number each, which a line's end never parts. */
function together(pairs, show) {
  return pairs.flatMap(([token, value]) => [make("span", { class: "pair" }, token, " ", make("small", {}, show(value))), " "]);
}

/* 6. Gradients ------------------------------------------------------------------------------ */

function gradients(into) {
  if (model().followed === null) {
    into.append(empty("page.qkv.empty"));
    return;
  }
  const { gradient_norm: norms, update_ratio: ratios } = model().followed.weights;
  const map = make("div", { id: "gradient-map" });
  const updates = make("div", { id: "update-lines" });
  const steps = norms.axes.step;
  const show = (step) => {
    const place = steps.indexOf(step);
    const values = norms.values.map((row) => row.map((site) => site[place]));
    draw(map, [heatmap(values.map((row) => row.map((value) => (value > 0 ? Math.log10(value) : null))), {
      x: norms.axes.site.map((site) => say(`page.site.${site}`)), y: norms.axes.layer.map(layerName), text: values.map((row) => row.map((value) => number(value, 2))),
      texttemplate: norms.axes.layer.length * norms.axes.site.length > 120 ? "" : "%{text}", hovertemplate: "%{y}, %{x}: %{text}<extra></extra>",
      colorbar: { thickness: 10, outlinewidth: 0, title: { text: "log₁₀", side: "top" } },
    })], { xaxis: axis(say("page.axis.site"), { tickangle: -45, showgrid: false }), yaxis: axis("", { autorange: "reversed", showgrid: false }),
      height: 200 + 34 * norms.axes.layer.length });
  };
  into.append(make("div", { class: "controls" }, slider("page.choose.step", steps, steps[steps.length - 1],
    (step) => say("page.step.training", { step: number(Number(step)) }), show, "gradient-slider")),
  block(say("page.gradients.map_title"), map),
  make("div", { class: "columns" }, block(say("page.gradients.flow_title"), timelineOf("residual", ["gradient_norm"])),
    block(say("page.gradients.update_title"), updates)));
  show(steps[steps.length - 1]);
  const bySite = ratios.axes.site.map((site, j) => {
    const y = steps.map((_, s) => {
      const known = ratios.values.map((row) => row[j][s]).filter((value) => value !== null && value > 0);
      return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
    });
    return line(steps.map(Number), y, say(`page.site.${site}`), { line: { color: PALETTE[j % PALETTE.length], dash: DASHES[Math.floor(j / PALETTE.length)] } });
  }).filter((trace) => trace.y.some((value) => value !== null));
  draw(updates, bySite, { xaxis: axis(say("page.axis.step")), yaxis: axis(say("page.axis.update"), LOGARITHMIC), height: 420,
    legend: { orientation: "h", y: -0.2, yanchor: "top", font: { size: 11 } } });
}

/* 7. Operation trace ------------------------------------------------------------------------ */

function trace(into) {
  const found = model().trace;
  if (found === null) {
    into.append(empty("page.trace.empty"));
    return;
  }
  into.append(make("p", { class: "legend" }, ...[["linear", "page.trace.linear"], ["nonlinear", "page.trace.nonlinear"]].map(([kind, key]) =>
    make("span", {}, make("span", { class: `kind ${kind}` }), say(key)))),
  hint("page.trace.letters"),
  direction("page.trace.forward", found.forward, found, true), direction("page.trace.backward", found.backward, found, false));
}

function direction(key, steps, found, isOpen) {
  const kinds = new Map(found.forward.map((step) => [step.name, step]));
  const groups = [];
  for (const step of steps) {
    const [stack, place] = step.name.split(".");
    const name = /^\d+$/.test(place ?? "") ? `${stack}.${place}` : stack;
    if (!groups.length || groups[groups.length - 1].name !== name) {
      groups.push({ name, steps: [] });
    }
    groups[groups.length - 1].steps.push(step);
  }
  return make("details", { open: isOpen }, make("summary", {}, say(key, { operations: String(steps.length) })), make("div", { class: "inside" },
    ...groups.map((group) => make("details", { open: isOpen && group === groups[0] },
      make("summary", {}, group.name.includes(".") ? layerName(group.name) : say(`page.trace.group.${group.name}`), ` (${group.steps.length})`),
      make("div", { class: "inside" }, ...group.steps.map((step) => operation(step, kinds.get(step.name))))))));
}

function operation(step, forward) {
  const isLinear = forward.linear;
  const size = step.shape.join(" × ");
  const facts = [size, `μ ${number(step.mean, 2)}`, `σ ${number(step.std, 2)}`];
  if (step.flops) {
    facts.push(say("page.trace.flops", { flops: number(step.flops) }));
  }
  return make("div", { class: "operation" },
    make("span", { class: `kind ${isLinear ? "linear" : "nonlinear"}`, role: "img", "aria-label": say(isLinear ? "page.trace.linear" : "page.trace.nonlinear") }),
    make("span", {}, step.name), make("code", {}, step.formula, step.section ? make("small", {}, `  § ${step.section}`) : ""),
    make("span", { class: "numbers" }, facts.join(" · ")));
}

/* 8. Parity --------------------------------------------------------------------------------- */

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
  into.append(block(say("page.parity.points_title"), bars), parityTable(found.parity),
    make("div", { class: "columns" }, block(say("page.parity.curves_title"), curves), block(say("page.parity.gaps_title"), gaps)),
    block(say("page.parity.translations_title"), translationTable(found.translations)));
  const points = found.parity.map((row) => row.point);
  const at = (key) => found.parity.map((row) => (row[key] === null ? null : Math.max(row[key], NOTHING)));
  draw(bars, [
    { type: "bar", x: points, y: at("max_abs_fp32"), name: say("page.parity.fp32"), marker: { color: PALETTE[4] } },
    { type: "bar", x: points, y: at("max_abs_fp64"), name: say("page.parity.fp64"), marker: { color: PALETTE[0] } },
    { type: "scatter", mode: "lines", x: points, y: at("tolerance"), name: say("page.parity.tolerance_fp32"), line: { color: PALETTE[1], dash: "dot" } },
    { type: "scatter", mode: "lines", x: points, y: at("tolerance_fp64"), name: say("page.parity.tolerance_fp64"), line: { color: PALETTE[1] } },
  ], { barmode: "overlay", xaxis: axis(say("page.axis.point"), { showticklabels: false, showgrid: false }), yaxis: axis(say("page.axis.difference"), { ...LOGARITHMIC, dtick: 3 }), height: 420, hovermode: "x" });
  const { losses } = found.paired_training;
  const steps = losses.pytorch_fp64.map((_, i) => i + 1);
  lines(curves, [line(steps, losses.pytorch_fp64, "PyTorch", { mode: "lines" }), line(steps, losses.huggingface_fp64, "Hugging Face", { mode: "markers" })],
    say("page.axis.step"), say("page.axis.nats"));
  const gap = (one, two) => losses[one].map((loss, i) => Math.max(Math.abs(loss - losses[two][i]), NOTHING));
  lines(gaps, [line(steps, gap("pytorch_fp64", "huggingface_fp64"), say("page.parity.fp64")), line(steps, gap("pytorch_fp32", "huggingface_fp32"), say("page.parity.fp32")),
    line(steps, gap("pytorch_fp32", "pytorch_other_path_fp32"), say("page.parity.own_paths"))], say("page.axis.step"), say("page.axis.difference"), { y: { ...LOGARITHMIC, dtick: 3 } });
}

function parityTable(rows) {
  const heads = ["page.parity.column.point", "page.parity.column.fp64", "page.parity.column.fp32", "page.parity.column.tolerance", "page.parity.column.ok"];
  return make("details", { id: "parity-table" }, make("summary", {}, say("page.parity.all_points", { points: String(rows.length) })),
    grid(heads.map((key) => say(key)), rows.map((row) => make("tr", {}, make("th", { scope: "row" }, row.point),
      make("td", { class: "number" }, number(row.max_abs_fp64, 2)), make("td", { class: "number" }, number(row.max_abs_fp32, 2)),
      make("td", { class: "number" }, number(row.tolerance, 2)), make("td", { class: row.ok ? "right" : "bad" }, row.ok ? "✓" : "✗")))));
}

function translationTable(pairs) {
  return grid([say("page.parity.source"), say("page.overview.reference"), "PyTorch", "Hugging Face"], pairs.map((pair) => make("tr", {},
    make("td", {}, pair.src), make("td", {}, pair.reference), make("td", {}, pair.pytorch),
    make("td", { class: pair.pytorch === pair.huggingface ? "right" : "bad" }, pair.huggingface))));
}
