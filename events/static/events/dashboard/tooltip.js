// What lies under the cursor: the time, and each visible series with its value.

import { element } from "./dom.js";
import { short } from "./numbers.js";

export class Tooltip {
  constructor(place) {
    this.box = place.appendChild(element("div", { class: "tooltip", hidden: "", "aria-hidden": "true" }));
  }

  hide() {
    this.box.hidden = true;
  }

  // A row of some columns, beside the cursor, on the side where there is room.
  show(plot, title, columns, row) {
    this.box.replaceChildren(element("div", { class: "when" }, title), ...columns.map(({ series, label, unit, values }) =>
      element("div", { class: "line" }, element("span", { class: `mark s${series + 1}` }), element("span", { class: "label" }, label),
        element("b", {}, short(values[row], unit, 6)))));
    this.box.hidden = false;
    const [over, place] = [plot.over.getBoundingClientRect(), this.box.parentElement.getBoundingClientRect()];
    const [x, y] = [over.left - place.left + plot.cursor.left, over.top - place.top + plot.cursor.top];
    const { offsetWidth: width, offsetHeight: height } = this.box;
    const left = x + 16 + width <= place.width ? x + 16 : Math.max(0, x - 16 - width);
    this.box.style.left = `${left}px`;
    this.box.style.top = `${Math.min(Math.max(0, y - height / 2), Math.max(0, place.height - height))}px`;
  }
}
