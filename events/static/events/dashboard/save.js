// Files made in the page: any text or picture, and the chart with its legend as one.

import { element } from "./dom.js";

export function save(blob, name) {
  const href = URL.createObjectURL(blob);
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

export function png(plot, picture) {
  const source = plot.ctx.canvas;
  const style = getComputedStyle(document.documentElement);
  const line = 22 * devicePixelRatio;
  const top = (picture.columns.length + 1.5) * line;
  const canvas = element("canvas", { width: source.width, height: source.height + top });
  const context = canvas.getContext("2d");
  const fill = (name) => { context.fillStyle = style.getPropertyValue(name); };
  fill("--card");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.font = `${14 * devicePixelRatio}px system-ui, sans-serif`;
  fill("--text");
  context.fillText(picture.summary, line / 2, line);
  picture.columns.forEach(({ label, series, previous }, index) => {
    fill(`--s${series + 1}`);
    context.fillText(`${previous ? "- -" : "—"} ${label}`, line / 2, (index + 2) * line);
  });
  context.drawImage(source, 0, top);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
