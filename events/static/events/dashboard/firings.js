// What alerts say on the other pages: when they fired, as bands of a chart and in words, and which ones fire now.

import { byId, cssColor, faint } from "./dom.js";
import { get, listOf } from "./api.js";

const MOST_LAG_SECONDS = 60;
const path = document.body.dataset.firings;

// When alerts fired for some series within a window; never where that can't be had, as charts are shown all the same,
// or isn't for everybody, as on a public board.
export async function firingsOf(series, [from, to], signal) {
  if (!path || !series.length) return [];
  const window = { tsMin: new Date(from).toISOString(), tsMax: new Date(to).toISOString() };
  const answers = await listOf(path, "series", series, window, signal).catch(() => []);
  return answers.flatMap(({ firings }) => firings);
}

// Below the lines of a chart; a band that is shorter than a pixel is as wide as one.
export function drawFirings(plot, firings, hidden = []) {
  const { ctx, bbox: { left, top, width, height } } = plot;
  ctx.save();
  for (const { namespace, name, firedAt, resolvedAt } of firings) {
    if (hidden.includes(`${namespace}/${name}`)) continue;
    const [start, end] = [firedAt, resolvedAt ?? new Date().toISOString()].map((text) =>
      Math.min(Math.max(plot.valToPos(Date.parse(text) / 1000, "x", true), left), left + width));
    ctx.fillStyle = faint(cssColor("bad"), 18);
    ctx.fillRect(start, top, Math.max(end - start, devicePixelRatio), height);
  }
  ctx.restore();
}

// What is shaded, in words.
export function shadedText(firings) {
  const alerts = [...new Set(firings.map(({ alertName }) => alertName))];
  return alerts.length ? `Shaded: ${alerts.length > 3 ? `${alerts.length} alerts` : alerts.join(", ")} fired.` : "";
}

// The names of the alerts that fire, by series; and a word where their evaluation is behind. Series are shown without.
export async function firingNow(signal) {
  const found = new Map();
  const answer = await get(`${path}?${new URLSearchParams({ tsMin: new Date().toISOString() })}`, signal).catch(() => null);
  for (const { namespace, name, alertName, resolvedAt } of answer?.firings ?? []) {
    const key = `${namespace}/${name}`;
    if (resolvedAt === null) found.set(key, [...(found.get(key) ?? []), alertName]);
  }
  const isLate = answer && (answer.lagSeconds === null || answer.lagSeconds > MOST_LAG_SECONDS);
  byId("lag").textContent = !isLate ? "" : answer.lagSeconds === null ? "No worker has evaluated the alerts yet."
    : `The evaluation of alerts is ${Math.round(answer.lagSeconds)} s behind.`;
  return found;
}
