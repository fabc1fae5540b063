// The series shown, each with its colour, its values, a link to its events, and a button that removes it.

import { byId, element } from "./dom.js";
import { windowOf } from "./state.js";
import { localText } from "./time.js";

const { events } = document.body.dataset;
const number = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 6 });

export function legend(state, remove) {
  const [start, end] = windowOf(state).map((each) => localText(each, "UTC"));
  byId("legend").replaceChildren(...state.series.map((series, index) => {
    const [namespace, name] = series.split("/");
    const query = new URLSearchParams({ namespace, name, start, ...(state.range === "custom" ? { end } : {}) });
    const link = () => element("a", { href: `${events}?${query}`, "aria-label": `Events of ${series}` }, "events");
    return element("li", {}, element("span", { class: `mark s${index + 1}` }), series, element("b"),
      element("span", { class: "before" }), ...(events ? [link()] : []),
      element("button", { "aria-label": `Remove ${series}`, click: () => remove(series) }, "×"));
  }));
}

// The values of a row; where it is null, each column's latest.
export function legendValues(picture, row) {
  for (const { values, series, previous } of picture.columns) {
    const value = values[row ?? values.findLastIndex((each) => each != null)];
    const place = byId("legend").children[series].querySelector(previous ? ".before" : "b");
    place.textContent = (previous ? "before: " : "") + (value == null ? "–" : number.format(value));
  }
}
