"use strict";
/* Charts: Plotly with the page's colours, font and rules. */

// Okabe and Ito's colours, told apart by colour-blind readers too.
const PALETTE = [
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#e69f00",
  "#56b4e9",
  "#8c6d46",
  "#999999",
];
const DASHES = ["solid", "dash", "dot", "dashdot"];

const LOGARITHMIC = { type: "log", dtick: 1, exponentformat: "power" };

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const fontSize = () => parseFloat(getComputedStyle(document.body).fontSize);
const isDark = () => document.documentElement.dataset.theme === "dark";

/** From the background (0) to the accent (the most). */
function colors() {
  return [
    [0, css("--back")],
    [1, css("--accent")],
  ];
}

/** From warm (below) over the background to the accent (above). */
function diverging() {
  return [
    [0, css("--warm")],
    [0.5, css("--back")],
    [1, css("--accent")],
  ];
}

function axis(title, more = {}) {
  return {
    title: { text: title === "" ? "" : plain(title), standoff: 8 },
    gridcolor: css("--line"),
    zerolinecolor: css("--line"),
    automargin: true,
    fixedrange: true,
    ...more,
  };
}

/** An axis of tokens: by position, for a token may come twice. */
function tokenAxis(title, tokens, more = {}) {
  return axis(title, {
    tickvals: tokens.map((_, i) => i),
    ticktext: tokens.map(plain),
    showgrid: false,
    zeroline: false,
    ...more,
  });
}

/** Draw a chart; its height is given for letters of 16 pixels, and grows with them. */
function draw(element, traces, layout) {
  element.classList.add("chart");
  const whole = {
    font: { family: css("--font"), color: css("--front"), size: fontSize() * 0.8 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 10, r: 10, t: 12, b: 10 },
    legend: { orientation: "h", y: -0.25, yanchor: "top" },
    colorway: PALETTE,
    hoverlabel: { font: { family: css("--font") }, align: "left" },
    dragmode: false,
    ...layout,
    height: ((layout.height ?? 340) * fontSize()) / 16,
  };
  return Plotly.react(element, traces, whole, { responsive: true, displayModeBar: false });
}

function line(x, y, name, more = {}) {
  return {
    type: "scatter",
    mode: x.length > 60 ? "lines" : "lines+markers",
    x,
    y,
    name: plain(name),
    connectgaps: false,
    ...more,
  };
}

function lines(element, traces, x, y, more = {}) {
  return draw(element, traces, {
    xaxis: axis(x),
    yaxis: axis(y, more.y ?? {}),
    showlegend: traces.length > 1,
    height: 320 + 22 * Math.max(0, traces.length - 3), // room for the legend
  });
}

function heatmap(z, more = {}) {
  return {
    type: "heatmap",
    z,
    colorscale: colors(),
    xgap: 1,
    ygap: 1,
    hoverongaps: false,
    colorbar: { thickness: 10, outlinewidth: 0 },
    ...more,
  };
}
