// What is wrong with a page's layout: text that is cut, boxes that lie over each other, labels
// that leave their chart.
() => {
  const found = [];
  const shown = (element) => element.getClientRects().length > 0;
  const name = (element) => `${element.tagName} ${element.id} ${element.className?.baseVal ?? element.className}: ${element.textContent.slice(0, 40)}`;
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) {
    found.push(`the page is ${page.scrollWidth} wide`);
  }
  const texts = "h1, h2, h3, p, li, summary, label, button, th, td, .operation > *";
  for (const element of [...document.querySelectorAll(texts)].filter(shown)) {
    if (!element.closest(".tokens") && element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0
        && !element.querySelector(".scroll, .chart, select, input")) {
      found.push(`cut: ${name(element)}`);
    }
    if (!element.closest(".scroll, nav") && element.getBoundingClientRect().right > page.clientWidth + 1) {
      found.push(`beyond the edge: ${name(element)}`);
    }
  }
  for (const group of document.querySelectorAll(".columns, main, .controls")) {
    const boxes = [...group.children].filter(shown).map((child) => [child, child.getBoundingClientRect()]);
    boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 1) {
        found.push(`overlap: ${name(one)} and ${name(other)}`);
      }
    }));
  }
  for (const chart of [...document.querySelectorAll(".js-plotly-plot")].filter(shown)) {
    const edge = chart.getBoundingClientRect();
    for (const text of chart.querySelectorAll(".xtitle, .ytitle, .legendtext, .xtick text, .ytick text")) {
      const box = text.getBoundingClientRect();
      if (box.width && (box.left < edge.left - 2 || box.right > edge.right + 2 || box.bottom > edge.bottom + 2)) {
        found.push(`leaves its chart: ${chart.id}: ${text.textContent}`);
      }
    }
  }
  return found;
}
