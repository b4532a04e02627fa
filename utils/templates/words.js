"use strict";
/* Texts in the reader's language, and the words that many parts of the page share. */

const WORDS = JSON.parse(document.getElementById("words").textContent);

const Language = {
  now: "en",
  listeners: [],
  choose(language) {
    this.now = language;
    document.documentElement.lang = language;
    this.listeners.forEach((listener) => listener());
  },
};

/** The text of a key in the language chosen; values may be messages themselves. */
function say(key, values = {}) {
  const text = WORDS[Language.now][key];
  if (text === undefined) {
    throw new Error(`no text for ${key}`);
  }
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return value !== null && typeof value === "object"
      ? say(value.key, value.values)
      : String(value);
  });
}

/** "decoder.0.cross_attn" as a reader calls it. */
function attentionName(name) {
  const [stack, layer, site] = name.split(".");
  const kind = site.replace("_attn", "");
  return say(`page.name.${stack}_${kind}`, { layer: String(Number(layer) + 1) });
}

/** "decoder 1", "decoder input", "decoder.0.ffn" or "decoder.embed" as a reader calls it. */
function layerName(name) {
  const [stack, layer] = name.includes(".") ? name.split(".") : name.split(" ");
  if (layer === "embed" || layer === "input") {
    return say(`label.input.${stack}`);
  }
  return say(`label.layer.${stack}`, {
    layer: name.includes(".") ? String(Number(layer) + 1) : layer,
  });
}

/** "embedding", "layer 1" or "step 100": what vectors went through, as a reader calls it. */
function stateName(label) {
  const [kind, place] = label.split(" ");
  return /^\d+$/.test(place ?? "")
    ? say(`label.state.${kind}`, { number: place })
    : say(`label.state.${label.replace(" ", "_")}`);
}

const versionName = (version) =>
  ({ pytorch: "PyTorch", huggingface: "Hugging Face" })[version] ?? "";

/** A number with so many significant digits, short where it is very large or small. */
function number(value, digits = 3) {
  if (value === null || value === undefined) {
    return "–";
  }
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) {
    return value
      .toExponential(digits - 1)
      .replace("e+", "e")
      .replace("-", "−")
      .replace("e-", "e−");
  }
  if (Number.isInteger(value)) {
    return value.toLocaleString("en-US").replace("-", "−");
  }
  return value.toLocaleString("en-US", { maximumSignificantDigits: digits }).replace("-", "−");
}

/** A number with so many digits after the point. */
function fixed(value, digits) {
  return value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−");
}

/** Text that a page can show: control characters, which have no shape, by their code. */
function visible(text) {
  return text.replace(
    /[\u0000-\u0008\u000b-\u001f\u007f]/g,
    (c) => `U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`,
  );
}

/** Text for a Plotly label, which would take < for markup. */
function plain(text) {
  return visible(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

/** A text with the options of the command line in it, such as --debug, kept in one piece. */
function withOptions(text) {
  return text
    .split(/(--[a-z_]+(?: (?:pytorch|huggingface|both|analysis|grammar))?)/)
    .map((part) => (part.startsWith("--") ? make("code", { class: "option" }, part) : part));
}

/** Attributes of what no language changes: tokens, sentences, names in the code. */
const DATA_TEXT = { translate: "no" };

/** Makes an element; text is never taken for markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else if (value !== null && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(
    ...children.map((child) => (child instanceof Node ? child : visible(String(child)))),
  );
  return element;
}
