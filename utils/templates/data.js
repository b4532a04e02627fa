"use strict";
/* What the page tells: results as `utils.page_data` packed them. */

const DATA = JSON.parse(document.getElementById("data").textContent);

/** An array of numbers with its shape: `at(i, j, ...)` gives one, `row(i, j)` a last axis. */
class Numbers {
  constructor(packed) {
    this.shape = packed.shape;
    const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const size = this.shape.reduce((a, b) => a * b, 1);
    this.values = Array.from({ length: size }, (_, i) =>
      packed.type === "u2"
        ? view.getUint16(2 * i, true) / DATA.map_steps
        : view.getFloat32(4 * i, true),
    );
  }

  row(...places) {
    const width = this.shape[this.shape.length - 1];
    const number = places.reduce((index, place, axis) => index * this.shape[axis] + place, 0);
    return this.values.slice(number * width, (number + 1) * width);
  }

  /** The rows at the first axis's `place`, a list of lists. */
  matrix(place) {
    return Array.from({ length: this.shape[1] }, (_, i) => this.row(place, i));
  }
}

const unpacked = new Map();

/** The numbers of something packed; unpacked once. */
function unpack(packed) {
  if (!unpacked.has(packed)) {
    unpacked.set(packed, new Numbers(packed));
  }
  return unpacked.get(packed);
}

/* What the reader has chosen. */
const Chosen = {
  model: 0,
  sentence: 0,
  attention: null,
  head: 0,
  step: null, // of training; null: the finished model
  query: 0,
  key: null, // null: the one looked at most
  gold: true,
};

const model = () => DATA.models[Chosen.model];
const attentionOf = () => model().attention;
const sentenceNow = () => attentionOf().sentences[Chosen.sentence];

/** Tokens of the queries and the keys of an attention. */
function tokensOf(name, sentence) {
  if (name.startsWith("encoder")) {
    return { queries: sentence.src_tokens, keys: sentence.src_tokens };
  }
  return {
    queries: sentence.tgt_tokens,
    keys: name.endsWith("cross_attn") ? sentence.src_tokens : sentence.inputs,
  };
}

/** Steps that the attention chosen was mapped at on the sentence chosen; null stands last. */
function stepsNow() {
  const mapped = attentionOf()
    .over_training.filter((at) => at.maps[Chosen.attention]?.[Chosen.sentence])
    .map((at) => at.step);
  return [...mapped, null];
}

/** The map chosen: the weights of all heads. */
function mapNow() {
  const at = attentionOf().over_training.find((one) => one.step === Chosen.step);
  return unpack(
    at
      ? at.maps[Chosen.attention][Chosen.sentence]
      : attentionOf().finished[Chosen.attention][Chosen.sentence],
  );
}

/** Bring what is chosen into the bounds of the model and sentence chosen. */
function settle() {
  const attention = attentionOf();
  Chosen.sentence = Math.min(Chosen.sentence, attention.sentences.length - 1);
  if (!attention.names.includes(Chosen.attention)) {
    const best = attention.alignment?.best;
    Chosen.attention =
      best && best.aer < DATA.good_aer
        ? `decoder.${best.layer - 1}.cross_attn`
        : attention.names[attention.names.length - 1];
    Chosen.head = best && best.aer < DATA.good_aer ? best.head - 1 : 0;
  }
  Chosen.head = Math.min(Chosen.head, unpack(attention.finished[Chosen.attention][0]).shape[0] - 1);
  if (!stepsNow().includes(Chosen.step)) {
    Chosen.step = null;
  }
  const { queries, keys } = tokensOf(Chosen.attention, sentenceNow());
  Chosen.query = Math.min(Chosen.query, queries.length - 1);
  if (Chosen.key !== null && Chosen.key >= keys.length) {
    Chosen.key = null;
  }
}

/** Entropy, error rate, loss without the head: what is known of one head, by name. */
function headFacts(name, head) {
  const { entropy, alignment, ablation } = attentionOf();
  const [stack, layer, site] = name.split(".");
  const label = `${stack} ${Number(layer) + 1} ${site.replace("_attn", "")}`;
  const of = (table) => table.values[table.axes.attention.indexOf(label)]?.[head] ?? null;
  const aligned =
    site === "cross_attn" && alignment
      ? alignment.table.find(
          (row) =>
            row.layer === Number(layer) + 1 &&
            row.head === head + 1 &&
            row.shift === alignment.best.shift,
        )
      : null;
  return {
    entropy: of(entropy),
    aer: aligned ? aligned.aer : null,
    ablation: ablation ? of(ablation.nll) : null,
  };
}
