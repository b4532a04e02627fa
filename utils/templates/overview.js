"use strict";
/* Sections 1 and 2: what came out, and how the training went. */

const PERCENT = ["exact_match", "token_accuracy", "tracking_overhead"]; // shown so, kept as shares
const METRICS = [
  "eval_nll",
  "eval_ppl",
  "train_nll",
  "eval_nll_other_source",
  "token_accuracy",
  "bleu",
  "chrf",
  "exact_match",
  "aer",
];
const SPEED = [
  "train_tokens_per_sec",
  "train_seconds",
  "decode_sentences_per_sec",
  "peak_memory_mb",
  "tracking_overhead",
];

function metric(name, value) {
  if (value === null || value === undefined) {
    return "–";
  }
  return PERCENT.includes(name) ? `${fixed(100 * value, 1)} %` : number(value, 4);
}

function overview(into) {
  const { summary, samples } = model();
  if (DATA.comparison) {
    into.append(block(say("page.overview.side_by_side"), sideBySide()));
  }
  const columns = make("div", { class: "columns" });
  into.append(columns);
  if (summary.metrics) {
    columns.append(metricsOfRun(summary));
  }
  if (summary.evaluation) {
    columns.append(metricsOfEvaluation(summary.evaluation));
  }
  for (const [kind, look] of [
    ["best", "good"],
    ["worst", "poor"],
  ]) {
    if (samples[kind].length) {
      columns.append(
        block(
          say(`page.overview.${kind}`),
          ...samples[kind].map((sample) => sampleOf(sample, look)),
        ),
      );
    }
  }
  if (DATA.kind === "analysis" || !samples.best.length) {
    columns.append(sentencesLookedAt());
  }
  if (summary.config) {
    columns.append(optionsOf(summary.config), environmentOf(summary));
  }
}

function metricsOfRun({ metrics, speed }) {
  const rows = (names, values) =>
    names
      .filter((name) => name in values)
      .map((name) => [say(`page.metric.${name}`), metric(name, values[name])]);
  return block(
    say("page.overview.results"),
    keyValues([...rows(METRICS, metrics), ...rows(SPEED, speed)]),
  );
}

/** What an analysis with --dataset found; there the NLL needs no "eval". */
function metricsOfEvaluation(found) {
  return block(
    say("page.overview.evaluated", { dataset: found.dataset }),
    keyValues(
      METRICS.map((name) => [name, found[name.replace("eval_nll", "nll")]])
        .filter(([, value]) => value !== undefined)
        .map(([name, value]) => [say(`page.metric.${name}`), metric(name, value)]),
    ),
  );
}

function sentencesLookedAt() {
  return block(
    say("page.overview.sentences"),
    ...attentionOf().sentences.map((sentence) =>
      make(
        "div",
        { class: "sample" },
        make("p", DATA_TEXT, sentence.src),
        make("p", DATA_TEXT, "→ ", sentence.tgt),
      ),
    ),
  );
}

function optionsOf(config) {
  const given = Object.entries(config).filter(
    ([, value]) => value !== null && value !== "" && !(Array.isArray(value) && !value.length),
  );
  return make(
    "details",
    {},
    make("summary", {}, say("page.overview.options")),
    keyValues(given.map(([name, value]) => [`--${name}`, String(value)])),
  );
}

function environmentOf({ environment, dataset }) {
  return make(
    "details",
    {},
    make("summary", {}, say("page.overview.environment")),
    keyValues([
      ...Object.entries(environment).map(([name, value]) => [name, String(value)]),
      ...Object.entries(dataset).map(([name, value]) => [
        say(`page.dataset.${name}`),
        typeof value === "number" ? number(value) : String(value),
      ]),
    ]),
  );
}

function sampleOf(sample, look) {
  return make(
    "div",
    { class: `sample ${look}` },
    make("p", DATA_TEXT, sample.src),
    make("p", DATA_TEXT, "→ ", sample.hypothesis),
    sample.hypothesis === sample.reference
      ? make("p", { class: "of" }, say("page.overview.equal"))
      : make(
          "p",
          { class: "of" },
          say("page.overview.reference"),
          ": ",
          sample.reference,
          ` (chrF ${fixed(sample.chrf, 0)})`,
        ),
  );
}

function sideBySide() {
  const heads = ["", "PyTorch", "Hugging Face", say("page.overview.why")];
  const rows = DATA.comparison.quantities.map(({ name, values, remark }) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, say(name.key, name.values)),
      ...values.map((value) => make("td", { class: "number" }, value)),
      make("td", {}, say(remark.key, remark.values)),
    ),
  );
  return grid(heads, rows);
}

const asPercentage = (share) => (share === null ? null : 100 * share);

/** One curve of each model: quantities are [kind of line, name, text]. */
function curvesOf(quantities) {
  const shown = DATA.comparison ? DATA.models : [model()];
  return shown
    .flatMap((one, m) =>
      quantities.map(([kind, name, text], i) => {
        const whose = shown.length > 1 ? `${versionName(one.version)}: ` : "";
        const { step, [name]: values } = one.curves[kind];
        const y = PERCENT.includes(name) ? values.map(asPercentage) : values;
        return line(step, y, whose + text, {
          line: { color: PALETTE[shown.length > 1 ? m + 2 * i : i], dash: DASHES[m] },
          mode: kind === "eval" ? "lines+markers" : "lines",
        });
      }),
    )
    .filter((trace) => trace.y.some((value) => value !== null && value !== undefined));
}

/** Charts of the training: name, vertical axis, and the quantities for `curvesOf`. */
function trainingCharts() {
  const rate = say("page.training.rate_axis");
  const speed = say("page.metric.train_tokens_per_sec");
  const gradient = say("page.training.gradient_axis");
  return [
    [
      "loss",
      say("page.axis.nats"),
      [
        ["train", "loss", say("page.training.train_loss")],
        ["eval", "nll", say("page.training.eval_nll")],
        ["eval", "nll_other_source", say("page.training.other_source")],
      ],
    ],
    [
      "quality",
      say("page.axis.score"),
      [
        ["eval", "bleu", "BLEU"],
        ["eval", "chrf", "chrF"],
        ["eval", "exact_match", say("page.metric.exact_match")],
      ],
    ],
    ["rate", rate, [["train", "lr", rate]]],
    ["speed", speed, [["speed", "tokens_per_sec", speed]]],
    ["gradient", gradient, [["train", "grad_norm", gradient]]],
  ];
}

function training(into) {
  const { of, step: steps } = model().curves.train;
  if (!steps.length) {
    into.append(empty("page.training.empty"));
    return;
  }
  const columns = make("div", { class: "columns" });
  into.append(columns);
  for (const [name, y, quantities] of trainingCharts()) {
    const element = make("div", { id: `chart-${name}` });
    const traces = curvesOf(quantities);
    if (traces.length) {
      columns.append(block(say(`page.training.chart.${name}`), element));
      afterwards(() =>
        lines(element, traces, say("page.axis.step"), y, {
          y: name === "gradient" ? { type: "log" } : {},
        }),
      );
    }
  }
  if (of > steps.length) {
    into.append(hint("page.training.thinned", { shown: number(steps.length), all: number(of) }));
  }
}
