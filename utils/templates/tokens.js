"use strict";
/* The token view: queries on the left, keys on the right, lines as strong as the attention. */

const ROW = 1.875; // height of a token in letters, as in page.css
const FAINTEST = 0.02; // weights below it have no line

class TokenView {
  /**
   * @param element - where to.
   * @param onQuery - called with the number of the query that the reader points at.
   */
  constructor(element, onQuery) {
    this.element = element;
    this.onQuery = onQuery;
  }

  /** weights: rows are queries; gold: [query, key, whether it is sure] or nothing. */
  show({ weights, queries, keys, names, gold, query }) {
    this.weights = weights;
    this.gold = gold ?? [];
    this.row = ROW * fontSize();
    const height = this.row * Math.max(queries.length, keys.length);
    this.svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.svg.setAttribute("viewBox", `0 0 100 ${height}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("height", height);
    this.svg.setAttribute("aria-hidden", "true"); // the numbers stand in a table
    this.element.replaceChildren(
      make(
        "div",
        { class: "tokens" },
        this.column(queries, "queries", names[0]),
        make("div", { class: "lines" }, this.svg),
        this.column(keys, "keys", names[1]),
      ),
    );
    this.point("queries", query);
  }

  column(tokens, side, title) {
    return make(
      "div",
      { class: `column ${side}` },
      make("p", {}, title),
      ...tokens.map((token, i) =>
        make(
          "button",
          {
            type: "button",
            translate: "no",
            title: visible(token),
            "data-place": String(i),
            onmouseenter: () => this.point(side, i),
            onfocus: () => this.point(side, i),
            onclick: () => this.point(side, i),
          },
          token,
        ),
      ),
    );
  }

  /** Show one row (of a query), or one column (of a key). */
  point(side, place) {
    const isQuery = side === "queries";
    this.svg.replaceChildren();
    this.weights.forEach((row, q) =>
      row.forEach((weight, k) => {
        const pointed = isQuery ? q === place : k === place;
        const strength = pointed ? weight : weight * 0.25;
        if (strength >= FAINTEST) {
          this.line(q, k, "", Math.min(1, strength), pointed ? 3 : 1.5);
        }
      }),
    );
    for (const [q, k, sure] of this.gold) {
      if (isQuery ? q === place : k === place) {
        this.line(q, k, sure ? "gold sure" : "gold", 1, null);
      }
    }
    this.element.querySelectorAll("button").forEach((button) => {
      const own =
        button.parentElement.classList.contains(side) && Number(button.dataset.place) === place;
      button.classList.toggle("chosen", own);
      const other = button.parentElement.classList.contains(side)
        ? 0
        : isQuery
          ? this.weights[place][Number(button.dataset.place)]
          : this.weights[Number(button.dataset.place)][place];
      button.style.background = own
        ? ""
        : `color-mix(in srgb, var(--accent) ${Math.round(60 * (other ?? 0))}%, var(--card))`;
    });
    if (isQuery) {
      this.onQuery(place);
    }
  }

  line(q, k, kind, opacity, width) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", "line");
    const ends = { x1: 0, y1: (q + 0.5) * this.row, x2: 100, y2: (k + 0.5) * this.row };
    Object.entries(ends).forEach(([name, value]) => element.setAttribute(name, value));
    element.setAttribute("class", kind);
    element.style.strokeOpacity = opacity;
    if (width !== null) {
      element.style.strokeWidth = width;
    }
    this.svg.append(element);
  }
}
