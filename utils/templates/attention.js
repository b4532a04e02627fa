"use strict";
/* Section 3: who looks at whom, in every head, at every step. */

/** Take over what the reader has chosen, and draw anew what shows it. */
function changed(change) {
  Object.assign(Chosen, change);
  settle();
  redraw("attention", "qkv");
}

function attentionControls() {
  const { names, sentences } = attentionOf();
  const heads = unpack(attentionOf().finished[Chosen.attention][0]).shape[0];
  return [
    chooser(
      "page.choose.sentence",
      sentences.map((sentence, i) => [i, visible(sentence.src)]),
      Chosen.sentence,
      (sentence) => changed({ sentence, query: 0, key: null }),
      { "data-choose": "sentence" },
    ),
    chooser(
      "page.choose.attention",
      names.map((name) => [name, attentionName(name)]),
      Chosen.attention,
      (attention) => changed({ attention, key: null }),
      { "data-choose": "attention" },
    ),
    chooser(
      "page.choose.head",
      Array.from({ length: heads }, (_, i) => [i, String(i + 1)]),
      Chosen.head,
      (head) => changed({ head, key: null }),
      { "data-choose": "head" },
    ),
  ];
}

function attention(into) {
  const shown = {
    view: make("div", { id: "token-view" }),
    row: make("div", { id: "row-numbers" }),
    map: make("div", { id: "attention-map" }),
  };
  shown.tokens = new TokenView(shown.view, (query) => {
    Chosen.query = query;
    showRow(shown);
  });
  const steps = stepsNow();
  into.append(
    make(
      "div",
      { class: "controls" },
      ...attentionControls(),
      slider(
        "page.choose.step",
        steps,
        Chosen.step,
        stepText,
        (step) => {
          Chosen.step = step;
          showMap(shown);
        },
        "step-slider",
      ),
      goldOfAttention() ? goldSwitch(shown) : "",
    ),
  );
  if (steps.length < 2) {
    const isFollowed = attentionOf().over_training.length > 0;
    into.append(hint(isFollowed ? "page.attention.only_finished" : "page.attention.not_followed"));
  }
  into.append(
    make(
      "div",
      { class: "columns" },
      block(say("page.attention.lines"), shown.view),
      block(say("page.attention.row_title"), shown.row),
      block(say("page.attention.map_title"), shown.map),
    ),
    block(say("page.attention.heads"), hint("page.attention.heads_hint"), headGrid()),
  );
  showMap(shown);
}

/** Gold links of the attention chosen; only those to the source have any. */
function goldOfAttention() {
  return Chosen.attention.endsWith("cross_attn") ? sentenceNow().gold : null;
}

function goldSwitch(shown) {
  return make(
    "label",
    { class: "inline" },
    make("input", {
      type: "checkbox",
      id: "gold",
      checked: Chosen.gold,
      onchange: (event) => {
        Chosen.gold = event.target.checked;
        showMap(shown);
      },
    }),
    say("page.attention.gold"),
  );
}

function axisNames(name) {
  const [stack, , site] = name.split(".");
  return stack === "encoder"
    ? [say("page.axis.encoder_query"), say("page.axis.encoder_key")]
    : [
        say("page.axis.decoder_query"),
        say(site === "cross_attn" ? "page.axis.cross_key" : "page.axis.decoder_key"),
      ];
}

/** Show the map chosen, as lines between tokens, as numbers and whole. */
function showMap(shown) {
  const weights = mapNow().matrix(Chosen.head);
  const { queries, keys } = tokensOf(Chosen.attention, sentenceNow());
  const names = axisNames(Chosen.attention);
  Object.assign(shown, { weights, queries, keys });
  shown.tokens.show({
    weights,
    queries,
    keys,
    names,
    query: Chosen.query,
    gold: Chosen.gold ? goldOfAttention() : null,
  });
  draw(
    shown.map,
    [
      heatmap(weights, {
        zmin: 0,
        zmax: 1,
        text: weights.map((row, q) =>
          row.map((weight, k) => `${plain(queries[q])} → ${plain(keys[k])}<br>${fixed(weight, 4)}`),
        ),
        hoverinfo: "text",
      }),
    ],
    {
      xaxis: tokenAxis(names[1], keys, { tickangle: -60 }),
      yaxis: tokenAxis(names[0], queries, { autorange: "reversed" }),
      height: Math.max(340, 24 * queries.length + 160),
    },
  );
}

/** The row of the query pointed at, as numbers. */
function showRow(shown) {
  const row = shown.weights[Chosen.query];
  const entropy = -row.reduce((sum, p) => sum + (p > 0 ? p * Math.log(p) : 0), 0);
  const most = row.indexOf(Math.max(...row));
  shown.row.replaceChildren(
    hint("page.attention.row_of", {
      query: visible(shown.queries[Chosen.query]),
      key: visible(shown.keys[most]),
      entropy: fixed(entropy, 2),
      step: stepText(Chosen.step),
    }),
    grid(
      [say("page.attention.key"), say("page.attention.weight")],
      row.map((weight, k) =>
        make(
          "tr",
          { class: k === most ? "chosen" : null },
          make("th", { scope: "row", ...DATA_TEXT }, shown.keys[k]),
          make(
            "td",
            { class: "number" },
            fixed(weight, 4),
            " ",
            make("span", { class: "bar", style: `width: ${(5 * weight).toFixed(2)}em` }),
          ),
        ),
      ),
      "of-tokens",
    ),
  );
}

/** What is known of every head: a row for each attention. */
function headGrid() {
  const { names } = attentionOf();
  const heads = Math.max(...names.map((name) => unpack(attentionOf().finished[name][0]).shape[0]));
  const places = Array.from({ length: heads }, (_, head) => head);
  const facts = names.map((name) => places.map((head) => headFacts(name, head)));
  const widest = Math.max(...facts.flat().map((fact) => fact.entropy ?? 0));
  return grid(
    ["", ...places.map((head) => say("page.attention.head", { head: String(head + 1) }))],
    names.map((name, i) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, attentionName(name)),
        ...facts[i].map((fact, head) => headCell(name, head, fact, widest)),
      ),
    ),
    "heads",
  );
}

/** One head, the darker the more narrowly it looks; it can be chosen. */
function headCell(name, head, fact, widest) {
  const isChosen = name === Chosen.attention && head === Chosen.head;
  const strength = Math.round(45 * (1 - (fact.entropy ?? 0) / (widest || 1)));
  return make(
    "td",
    {
      class: isChosen ? "chosen" : null,
      style: `background: color-mix(in srgb, var(--accent) ${strength}%, transparent)`,
    },
    make(
      "button",
      {
        type: "button",
        "data-head": `${name}/${head}`,
        "aria-label": say("page.attention.head_label", {
          attention: attentionName(name),
          head: String(head + 1),
          entropy: fixed(fact.entropy, 2),
          aer: fixed(fact.aer, 3),
        }),
        onclick: () => {
          changed({ attention: name, head, key: null });
          document.querySelector(`[data-head="${name}/${head}"]`)?.focus();
        },
      },
      `H ${fixed(fact.entropy, 2)}`,
      fact.aer === null ? "" : make("small", {}, `AER ${fixed(fact.aer, 2)}`),
      fact.ablation === null ? "" : make("small", {}, `Δ ${fixed(fact.ablation, 2)}`),
    ),
  );
}
