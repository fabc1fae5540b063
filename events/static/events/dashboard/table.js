// The picture as a table, and as a file of comma-separated values: the same rows and columns.

import { element } from "./dom.js";
import { zonedText } from "./time.js";

const MOST_ROWS = 5000;

const cells = ({ columns }, row) => columns.map(({ values }) => (values[row] == null ? "" : String(values[row])));

export function table(picture, zone) {
  const { texts, columns } = picture;
  const rows = texts.slice(0, MOST_ROWS).map((text, index) => element("tr", {},
    element("th", { scope: "row" }, element("time", { datetime: text }, zonedText(text, zone))),
    ...cells(picture, index).map((cell) => element("td", {}, cell))));
  const more = texts.length > MOST_ROWS ? `; the first ${MOST_ROWS}, and all ${texts.length} in the CSV` : "";
  const head = [{ label: "timestamp" }, ...columns].map(({ label }) => element("th", { scope: "col" }, label));
  return element("table", {}, element("caption", {}, `Times are of ${zone}${more}`),
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
}

// RFC 4180. A label that a spreadsheet would take for a formula is marked as text.
export function csv(picture, zone) {
  const quoted = (label) => `"${label.replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  const head = ["timestamp", ...picture.columns.map(({ label }) => quoted(label))];
  const rows = picture.texts.map((text, index) => [zonedText(text, zone), ...cells(picture, index)]);
  return [head, ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}
