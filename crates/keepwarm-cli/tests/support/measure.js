// Runs in a page around the report, whose own scripts are forbidden.
const told = document.getElementById("told");
const frame = document.getElementById("frame");

function channels(colour) {
  return colour.match(/[\d.]+/g).map(Number);
}

// The relative luminance of WCAG 2.2.
function luminance(colour) {
  const [r, g, b] = channels(colour).slice(0, 3).map((c) => {
    c /= 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a, b) {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

function background(element, style) {
  for (let e = element; e; e = e.parentElement) {
    const back = style(e).backgroundColor;
    const [, , , alpha = 1] = channels(back);
    if (alpha > 0) return back;
  }
  return "rgb(255, 255, 255)";
}

function measure() {
  const inner = frame.contentDocument;
  const root = inner.documentElement;
  const style = (e) => frame.contentWindow.getComputedStyle(e);
  const shown = (e) => e.getClientRects().length > 0;
  inner.querySelectorAll("details").forEach((d) => (d.open = true));
  const found = { width: 0, cramped: 0, text: 99, graphics: 99, shown: 0 };
  const ranges = inner.querySelectorAll("input");
  for (const range of ranges.length ? ranges : [null]) {
    if (range) range.checked = true;
    found.width = Math.max(found.width, root.scrollWidth);
    found.shown = [...inner.querySelectorAll(".chart")].filter(shown).length;
    for (const e of inner.querySelectorAll(".card, .scroll, body")) {
      const scrolls = style(e).overflowX === "auto";
      if (!scrolls && e.scrollWidth > e.clientWidth + 1) found.cramped += 1;
    }
    for (const e of [...inner.querySelectorAll("body *")].filter(shown)) {
      const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
      if (e.localName === "text") {
        const box = e.parentElement.querySelector(":scope > rect");
        const inCell = e.parentElement.localName === "g" && box;
        const back = inCell ? style(box).fill : background(e, style);
        found.text = Math.min(found.text, contrast(style(e).fill, back));
      } else if (own && e.namespaceURI === root.namespaceURI) {
        const c = contrast(style(e).color, background(e, style));
        found.text = Math.min(found.text, c);
      } else if (e.matches("rect, polyline") && !e.matches(".free, .hint, .cell rect")) {
        const line = e.localName === "polyline";
        const colour = line ? style(e).stroke : style(e).fill;
        const card = inner.querySelector(".card");
        const c = contrast(colour, background(card, style));
        found.graphics = Math.min(found.graphics, c);
      }
    }
  }
  const dark = luminance(background(inner.body, style)) < 0.2;
  const all = Object.entries({ ...found, dark: Number(dark) });
  told.textContent = all.map(([name, n]) => `[${name} ${n}]`).join(" ");
}

if (frame.contentDocument && frame.contentDocument.readyState === "complete" && frame.contentDocument.body.children.length) {
  measure();
} else {
  frame.addEventListener("load", measure);
}
