// Files made in the page: any text or picture, and the chart with its title and legend as one.

import { cssColor, element } from "./dom.js";
import { short } from "./numbers.js";

export function save(blob, name) {
  const href = URL.createObjectURL(blob);
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

// Named for what is in it: Shop-order_sum-by-day_2026-10-01_2026-11-01.csv
export function fileName(picture, ending) {
  const names = picture.columns.filter(({ previous }) => !previous).map(({ label }) => label);
  const series = names.slice(0, 2).join("+") + (names.length > 2 ? `+${names.length - 2}` : "");
  const day = (instant) => new Date(instant).toISOString().slice(0, 10);
  const words = [series, `${picture.type}-by-${picture.granularity}`, day(picture.from), day(picture.to)];
  return `${words.map((word) => word.replace(/[^\p{L}\p{N}.+-]+/gu, "-").slice(0, 60)).join("_")}.${ending}`;
}

export function png(plot, picture, latestRow) {
  const source = plot.ctx.canvas;
  const line = 22 * devicePixelRatio;
  const top = (picture.columns.length + 1.5) * line;
  const canvas = element("canvas", { width: source.width, height: source.height + top });
  const context = canvas.getContext("2d");
  const fill = (name) => { context.fillStyle = cssColor(name); };
  fill("card");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.font = `bold ${14 * devicePixelRatio}px system-ui, sans-serif`;
  fill("text");
  context.fillText(picture.summary, line / 2, line);
  context.font = `${14 * devicePixelRatio}px system-ui, sans-serif`;
  picture.columns.forEach((column, index) => {
    const { label, series, previous, unit } = column;
    fill(`s${series + 1}`);
    const value = column.values[latestRow(column, picture.cut)];
    const words = [label, unit && unit !== "number" ? `(${unit})` : "", value == null ? "" : short(value, unit, 6)];
    context.fillText(`${previous ? "- -" : "—"} ${words.filter(Boolean).join("  ")}`, line / 2, (index + 2) * line);
  });
  context.drawImage(source, 0, top);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
