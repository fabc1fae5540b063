// The picture as a table, and as a file of comma-separated values: the same rows and columns.

import { byId, element, renew } from "./dom.js";
import { whole } from "./numbers.js";
import { zonedText } from "./time.js";

const MOST_ROWS = 5000;
// Of the other types nothing is known of the whole range.
const TOTALS = { avg: "Average", min: "Minimum", max: "Maximum", sum: "Total", count: "Total" };
const NOTES = { filling: " (so far)", cut: " (part)" };

const unitOf = ({ unit }) => (unit && unit !== "number" ? ` (${unit})` : "");

// Rows that are there already, word for word, stay, and so do a selection and the place that is scrolled to.
export function table(picture, state) {
  const one = (selector) => byId("table").querySelector(selector);
  const { texts, columns, cut } = picture;
  const rows = [...texts.keys()];
  if (state.rows === "newest") rows.reverse();
  const more = texts.length > MOST_ROWS ? `; the first ${MOST_ROWS}, and all ${texts.length} in the CSV` : "";
  renew(one("caption"), `Times are of ${state.timezone}${more}`);
  const heads = ["timestamp", ...columns.map((column) => column.label + unitOf(column))];
  renew(one("thead tr"), ...heads.map((label) => element("th", { scope: "col" }, label)));
  const totals = columns.map(({ statistics }) => whole(statistics?.[picture.type] ?? statistics?.formula));
  const isTotal = picture.type in TOTALS && columns.some(({ statistics }) => statistics);
  renew(one("tfoot tr"), ...(isTotal ? [element("th", { scope: "row" }, `Whole range: ${TOTALS[picture.type].toLowerCase()}`),
    ...totals.map((total) => element("td", {}, total))] : []));
  const body = one("tbody");
  const there = new Map([...body.rows].map((row) => [row.outerHTML, row]));
  const wanted = new Set(rows.slice(0, MOST_ROWS).map((row) => {
    const time = element("time", { datetime: texts[row] }, zonedText(texts[row], state.timezone) + (NOTES[cut[row]] ?? ""));
    const made = element("tr", { class: cut[row] ? "part" : null }, element("th", { scope: "row" }, time),
      ...columns.map(({ values }) => element("td", {}, whole(values[row]))));
    return there.get(made.outerHTML) ?? made;
  }));
  for (const row of there.values()) if (!wanted.has(row)) row.remove();
  let next = body.firstElementChild;
  for (const row of wanted) {
    if (row === next) next = next.nextElementSibling;
    else body.insertBefore(row, next);
  }
}

// RFC 4180. A label that a spreadsheet would take for a formula is marked as text.
export function csv(picture, zone) {
  const quoted = (label) => `"${label.replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  const head = ["timestamp", ...picture.columns.map(({ label }) => quoted(label))];
  const cells = (row) => picture.columns.map(({ values }) => (values[row] == null ? "" : String(values[row])));
  const rows = picture.texts.map((text, index) => [zonedText(text, zone), ...cells(index)]);
  return [head, ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}
