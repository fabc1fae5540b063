// The picture as a table, and as a file of comma-separated values: the same rows and columns.

import { byId, element } from "./dom.js";
import { whole } from "./numbers.js";
import { zonedText } from "./time.js";

const MOST_ROWS = 5000;
// Of the other types nothing is known of the whole range.
const TOTALS = { avg: "Average", min: "Minimum", max: "Maximum", sum: "Total", count: "Total" };
const NOTES = { filling: " (so far)", cut: " (part)" };

const unitOf = ({ unit }) => (unit && unit !== "number" ? ` (${unit})` : "");

// Rows that are there stay, and so do a selection and the place that is scrolled to.
export function table(picture, state) {
  const place = byId("table");
  const { texts, columns, cut } = picture;
  const rows = [...texts.keys()];
  if (state.rows === "newest") rows.reverse();
  const shown = rows.slice(0, MOST_ROWS);
  const more = texts.length > MOST_ROWS ? `; the first ${MOST_ROWS}, and all ${texts.length} in the CSV` : "";
  const caption = `Times are of ${state.timezone}${more}`;
  const head = ["timestamp", ...columns.map((column) => column.label + unitOf(column))];
  const foot = ["Whole range", ...columns.map(({ statistics }) => whole(statistics?.[picture.type] ?? statistics?.formula))];
  const shape = JSON.stringify([head, state.rows, state.timezone]);
  if (place.dataset.shape !== shape) {
    place.dataset.shape = shape;
    place.replaceChildren(element("table", {}, element("caption"), element("thead", {}, element("tr", {},
      ...head.map((label) => element("th", { scope: "col" }, label)))), element("tbody"), element("tfoot", {}, element("tr"))));
  }
  place.querySelector("caption").textContent = caption;
  const isTotal = picture.type in TOTALS && columns.some(({ statistics }) => statistics);
  place.querySelector("tfoot tr").replaceChildren(...(isTotal ? foot : []).map((text, index) => (index
    ? element("td", {}, text) : element("th", { scope: "row" }, `${text}: ${TOTALS[picture.type].toLowerCase()}`))));
  const body = place.querySelector("tbody");
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const wanted = new Set(shown.map((row) => texts[row]));
  for (const [key, row] of known) if (!wanted.has(key)) row.remove();
  let next = body.firstElementChild;
  for (const row of shown) {
    const cells = columns.map(({ values }) => whole(values[row]));
    const time = zonedText(texts[row], state.timezone) + (NOTES[cut[row]] ?? "");
    const there = known.get(texts[row]);
    if (there) {
      [time, ...cells].forEach((text, index) => {
        const cell = index ? there.cells[index] : there.cells[0].firstElementChild;
        if (cell.textContent !== text) cell.textContent = text;
      });
      if (there === next) next = next.nextElementSibling;
      else body.insertBefore(there, next);
    } else {
      body.insertBefore(element("tr", { "data-key": texts[row], ...(cut[row] ? { class: "part" } : {}) },
        element("th", { scope: "row" }, element("time", { datetime: texts[row] }, time)), ...cells.map((cell) => element("td", {}, cell))), next);
    }
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
