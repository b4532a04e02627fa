"use strict";
/* Brings the page to life: languages, colours, models. Sections are drawn when they come into
   view. */

const SECTIONS = { overview, training, attention, qkv, layer, gradients, trace, parity };
const stale = new Set();
const inView = new Set();
let waiting = [];

/** Do something once the section being drawn is in the page, for charts must know their size. */
function afterwards(action) {
  waiting.push(action);
}

function drawSection(name) {
  stale.delete(name);
  const section = document.getElementById(name);
  const content = section.querySelector(".content");
  content.querySelectorAll(".js-plotly-plot").forEach((chart) => Plotly.purge(chart));
  content.replaceChildren();
  const sentences = DATA.explanations[Chosen.model][name]
    .map((message) => say(message.key, message.values))
    .join(" ");
  section.querySelector(".explanation").replaceChildren(...withOptions(visible(sentences)));
  waiting = [];
  SECTIONS[name](content);
  waiting.forEach((action) => action());
}

/** Draw sections anew: at once where the reader is, else when they come into view. */
function redraw(...names) {
  names.forEach((name) => stale.add(name));
  names.filter(isRead).forEach(keepingFocus(drawSection));
}

function isRead(name) {
  return inView.has(name) || document.getElementById(name).contains(document.activeElement);
}

/** The list or slider that was used keeps the keyboard's focus, though it is made anew. */
function keepingFocus(action) {
  return (name) => {
    const active = document.activeElement;
    const mark = active?.dataset?.choose ? `[data-choose="${active.dataset.choose}"]` : null;
    const section = active?.closest("section")?.id;
    action(name);
    if (mark && section === name) {
      document.getElementById(name).querySelector(mark)?.focus({ preventScroll: true });
    }
  };
}

function redrawAll() {
  redraw(...Object.keys(SECTIONS));
}

function drawEverything() {
  Object.keys(SECTIONS).forEach(drawSection);
}

function showWords() {
  document.querySelectorAll("[data-text]").forEach((element) => {
    element.textContent = say(element.dataset.text);
  });
  document.querySelectorAll("[data-label]").forEach((element) => {
    element.setAttribute("aria-label", say(element.dataset.label));
  });
  document.querySelectorAll("[data-hint]").forEach((element) => {
    element.title = say(element.dataset.hint);
  });
  document.querySelectorAll("[data-language]").forEach((button) => {
    button.setAttribute("aria-pressed", String(button.dataset.language === Language.now));
  });
  document.title = say("page.title");
  document.getElementById("subtitle").textContent = say(`page.subtitle.${DATA.kind}`, {
    model: visible(DATA.models.map((one) => versionName(one.version) || one.name).join(" / ")),
  });
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

/** Light or dark as the system is, until the reader chooses. */
function followTheme() {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  setTheme(system.matches ? "dark" : "light");
  system.addEventListener("change", (event) => {
    setTheme(event.matches ? "dark" : "light");
    redrawAll();
  });
  document.getElementById("theme").addEventListener("click", () => {
    setTheme(isDark() ? "light" : "dark");
    redrawAll();
  });
}

function offerModels() {
  const list = document.getElementById("model");
  list.append(
    ...DATA.models.map((one) => make("option", {}, versionName(one.version) || one.name)),
  );
  list.addEventListener("change", () => {
    Chosen.model = list.selectedIndex;
    settle();
    redrawAll();
  });
  document.getElementById("model-switch").hidden = false;
}

function offerLanguages() {
  document
    .querySelectorAll("[data-language]")
    .forEach((button) =>
      button.addEventListener("click", () => Language.choose(button.dataset.language)),
    );
  Language.listeners.push(showWords, redrawAll);
  Language.choose(navigator.languages.find((name) => /^(ko|en)/.test(name))?.slice(0, 2) ?? "en");
}

/** Call `action` with each section as it comes into view or leaves it. */
function watchSections(action, rootMargin) {
  const observer = new IntersectionObserver((entries) => entries.forEach(action), { rootMargin });
  document.querySelectorAll("main > section").forEach((section) => observer.observe(section));
}

function drawInView({ target, isIntersecting }) {
  const name = target.id;
  if (isIntersecting) {
    inView.add(name);
    if (stale.has(name)) {
      drawSection(name);
    }
  } else {
    inView.delete(name);
  }
}

function markInContents({ target, isIntersecting }) {
  if (isIntersecting) {
    document
      .querySelectorAll("nav a[aria-current]")
      .forEach((other) => other.removeAttribute("aria-current"));
    document.querySelector(`nav a[href="#${target.id}"]`).setAttribute("aria-current", "true");
  }
}

function begin() {
  followTheme();
  document.getElementById("left-out").hidden = DATA.is_whole;
  if (DATA.models.length > 1) {
    offerModels();
  }
  settle();
  offerLanguages();
  watchSections(drawInView, "400px");
  watchSections(markInContents, "-20% 0px -70% 0px");
  window.addEventListener("beforeprint", drawEverything);
}

begin();
