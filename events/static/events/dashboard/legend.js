// The series shown: each with its colour, what it says now, what the API says of its whole range, a link to its events,
// and a button that removes it. Its name hides it and shows it again.

import { pathOf } from "./api.js";
import { byId, element, renew } from "./dom.js";
import { letterOf } from "./formulas.js";
import { percent, short } from "./numbers.js";
import { windowOf } from "./state.js";
import { localText } from "./time.js";

const { events, seriesPage } = document.body.dataset;
export const entryOf = (key) => [...byId("legend").children].find((each) => each.dataset.key === key);
const STATISTICS = { avg: "average", min: "minimum", max: "maximum", sum: "total", count: "count" };

// One entry for each column that can be removed, as soon as the state is known; the values follow.
export function legend(state, formulas, { remove, toggle }) {
  const [start, end] = windowOf(state).map((each) => localText(each, "UTC"));
  const link = (series) => {
    const [namespace, name] = series.split("/");
    const query = new URLSearchParams({ namespace, name, start, ...(state.range === "custom" ? { end } : {}) });
    return element("a", { href: `${events}?${query}`, "aria-label": `Events of ${series}` }, "events");
  };
  const about = (series) => element("a", { href: seriesPage + pathOf(series), "aria-label": `About ${series}` }, "about");
  const entry = (key, label, index, letter, links) => element("li", { "data-key": key },
    element("button", { class: "name", "aria-pressed": !state.hidden.includes(key), title: "Hide or show", click: () => toggle(key) },
      element("span", { class: `mark s${index + 1}` }), ...(letter ? [element("i", {}, letter)] : []), element("span", {}, label)),
    element("span", { class: "now" }, element("small"), " ", element("b"), element("span", { class: "before" })),
    element("dl"), ...links,
    element("button", { class: "remove", "aria-label": `Remove ${label}`, click: () => remove(key) }, "×"));
  const isLettered = state.series.length > 1;
  byId("legend").replaceChildren(
    ...state.series.map((series, index) => entry(series, series, index, isLettered && letterOf(index),
      [...(events ? [link(series)] : []), ...(seriesPage ? [about(series)] : [])])),
    ...formulas.map(({ text, label, written }, index) => entry(text, label === written ? label : `${label} = ${written}`, 6 + index, null, [])));
}

// The row that stands for a column: its last whole bucket with a value, or else the last with any.
export function latestRow({ values }, cut) {
  const whole = values.findLastIndex((value, row) => value != null && !cut[row]);
  return whole >= 0 ? whole : values.findLastIndex((value) => value != null);
}

function said(row, { cut, granularity: unit, instants }) {
  if (unit === "none") return "last event";
  if (cut[row] === "filling") return `this ${unit} so far`;
  if (cut[row]) return `part of a ${unit}`;
  const next = instants.length - 1 - (cut[instants.length - 1] ? 1 : 0);
  return row === next ? `last full ${unit}` : `last ${unit} with events`;
}

// The values of a row; where it is null, each column's latest. `known` tells whether a series exists.
export function legendValues(picture, row, known) {
  for (const column of picture.columns) {
    const key = column.text ?? picture.columns[column.series]?.label;
    const place = entryOf(key);
    if (!place) continue;
    const at = row ?? latestRow(column, picture.cut);
    const value = column.values[at];
    if (column.previous) {
      place.querySelector(".before").textContent = value == null ? "" : ` before: ${short(value, column.unit, 6)}`;
      continue;
    }
    const isNothing = row === null && value == null;
    const reason = !known(key) && column.formula === undefined ? "no such series" : column.isRefused ? "not shown" : "nothing in this range";
    place.querySelector("small").textContent = isNothing ? reason : row === null ? said(at, picture) : "here";
    place.querySelector("b").textContent = isNothing ? "" : short(value, column.unit, 6);
  }
}

// What is known of the whole range, and how it differs from the period before.
export function legendStatistics(picture) {
  for (const column of picture.columns) {
    if (column.previous) continue;
    const place = entryOf(column.text ?? column.label);
    if (!place) continue;
    const { statistics, earlier, unit } = column;
    const parts = [];
    if (column.formula !== undefined && statistics) parts.push(["whole range", short(statistics.formula, unit)]);
    else if (statistics?.count) {
      for (const [key, word] of Object.entries(STATISTICS)) parts.push([word, short(statistics[key], key === "count" ? "" : unit)]);
      const [now, then] = [statistics[picture.type], earlier?.[picture.type]];
      const change = now / Math.abs(then) - Math.sign(then); // of 0 there is none, in percent
      if (now != null && then != null && Number.isFinite(change)) parts.push(["change", percent(change)]);
    }
    const title = (word) => (word === "change" ? { title: "against the period of the same length before" } : {});
    renew(place.querySelector("dl"), ...parts.map(([word, value]) => element("div", title(word), element("dt", {}, word), element("dd", {}, value))));
  }
}
