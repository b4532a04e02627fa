"use strict";
/* Sections 1 and 2: what came out, and how the training went. */

const PERCENT = ["exact_match", "token_accuracy"];
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
  return PERCENT.includes(name) || name === "tracking_overhead"
    ? `${fixed(100 * value, 1)} %`
    : number(value, 4);
}

function overview(into) {
  const columns = make("div", { class: "columns" });
  const { summary, samples } = model();
  if (DATA.comparison) {
    into.append(block(say("page.overview.side_by_side"), sideBySide()));
  }
  into.append(columns);
  if (summary.metrics) {
    columns.append(
      block(
        say("page.overview.results"),
        keyValues([
          ...METRICS.filter((name) => name in summary.metrics).map((name) => [
            say(`page.metric.${name}`),
            metric(name, summary.metrics[name]),
          ]),
          ...SPEED.filter((name) => name in summary.speed).map((name) => [
            say(`page.metric.${name}`),
            metric(name, summary.speed[name]),
          ]),
        ]),
      ),
    );
  }
  if (summary.evaluation) {
    columns.append(
      block(
        say("page.overview.evaluated", { dataset: summary.evaluation.dataset }),
        keyValues(
          METRICS.map((name) => [name, summary.evaluation[name.replace("eval_nll", "nll")]])
            .filter(([, value]) => value !== undefined)
            .map(([name, value]) => [say(`page.metric.${name}`), metric(name, value)]),
        ),
      ),
    );
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
    columns.append(
      block(
        say("page.overview.sentences"),
        ...attentionOf().sentences.map((sentence) =>
          make(
            "div",
            { class: "sample" },
            make("p", DATA_TEXT, sentence.src),
            make("p", DATA_TEXT, "→ ", sentence.tgt),
          ),
        ),
      ),
    );
  }
  if (summary.config) {
    const shown = Object.entries(summary.config).filter(
      ([, value]) => value !== null && value !== "" && !(Array.isArray(value) && !value.length),
    );
    columns.append(
      make(
        "details",
        {},
        make("summary", {}, say("page.overview.options")),
        keyValues(shown.map(([name, value]) => [`--${name}`, String(value)])),
      ),
    );
    columns.append(
      make(
        "details",
        {},
        make("summary", {}, say("page.overview.environment")),
        keyValues([
          ...Object.entries(summary.environment).map(([name, value]) => [name, String(value)]),
          ...Object.entries(summary.dataset).map(([name, value]) => [
            say(`page.dataset.${name}`),
            typeof value === "number" ? number(value) : String(value),
          ]),
        ]),
      ),
    );
  }
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

const versionName = (version) =>
  ({ pytorch: "PyTorch", huggingface: "Hugging Face" })[version] ?? "";

/** One curve of each model: quantities are [kind of line, name, text]. */
function curvesOf(quantities, more = {}) {
  const shown = DATA.comparison ? DATA.models : [model()];
  return shown
    .flatMap((one, m) =>
      quantities.map(([kind, name, text], i) => {
        const whose = shown.length > 1 ? `${versionName(one.version)}: ` : "";
        const { step, [name]: values } = one.curves[kind];
        return line(step, values, `${whose}${text}`, {
          line: { color: PALETTE[shown.length > 1 ? m + 2 * i : i], dash: DASHES[m] },
          mode: kind === "eval" ? "lines+markers" : "lines",
          ...more,
        });
      }),
    )
    .filter((trace) => trace.y.some((value) => value !== null && value !== undefined));
}

function training(into) {
  if (!model().curves.train.step.length) {
    into.append(empty("page.training.empty"));
    return;
  }
  const step = say("page.axis.step");
  const charts = [
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
    ["rate", say("page.training.rate_axis"), [["train", "lr", say("page.training.rate_axis")]]],
    [
      "speed",
      say("page.metric.train_tokens_per_sec"),
      [["speed", "tokens_per_sec", say("page.metric.train_tokens_per_sec")]],
    ],
    [
      "gradient",
      say("page.training.gradient_axis"),
      [["train", "grad_norm", say("page.training.gradient_axis")]],
    ],
  ];
  const columns = make("div", { class: "columns" });
  into.append(columns);
  for (const [name, y, quantities] of charts) {
    const element = make("div", { id: `chart-${name}` });
    const traces = curvesOf(quantities);
    if (traces.length) {
      columns.append(block(say(`page.training.chart.${name}`), element));
      if (name === "quality") {
        // as a percentage, like the others
        traces
          .filter((trace) => trace.name.includes(plain(say("page.metric.exact_match"))))
          .forEach((trace) => {
            trace.y = trace.y.map((value) => (value === null ? null : 100 * value));
          });
      }
      afterwards(() =>
        lines(element, traces, step, y, { y: name === "gradient" ? { type: "log" } : {} }),
      );
    }
  }
  const { of, step: steps } = model().curves.train;
  if (of > steps.length) {
    into.append(hint("page.training.thinned", { shown: number(steps.length), all: number(of) }));
  }
}
