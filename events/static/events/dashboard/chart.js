// The chart: uPlot, in the page's colours and the chosen time zone.

import uPlot from "../vendor/uplot-1.6.32/uPlot.esm.js";

const NO = null;
const [DATE, CLOCK] = ["{D} {MMM} {YYYY}", "{HH}:{mm}"];
// uPlot's format: least seconds between ticks, label, and what is added where the year, …, day, …, minute changes
const TICKS = [
  [3600 * 24 * 365, "{YYYY}", NO, NO, NO, NO, NO, NO, 1],
  [3600 * 24 * 28, "{MMM}", "\n{YYYY}", NO, NO, NO, NO, NO, 1],
  [3600 * 24, "{D} {MMM}", "\n{YYYY}", NO, NO, NO, NO, NO, 1],
  [60, CLOCK, `\n${DATE}`, NO, "\n{D} {MMM}", NO, NO, NO, 1],
  [1, `${CLOCK}:{ss}`, `\n${DATE}`, NO, "\n{D} {MMM}", NO, NO, NO, 1],
];
const cssColor = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
const labelWidth = (plot, labels) => 24 + 7 * Math.max(3, ...(labels ?? []).map((label) => label.length));

// Lines end at gaps; a value between two gaps would be no line at all, and is drawn as a point.
const lonely = (values) =>
  [...values.keys()].filter((i) => values[i] != null && values[i - 1] == null && values[i + 1] == null);

export class Chart {
  constructor(place, onZoom, onHover) {
    Object.assign(this, { place, onZoom, onHover });
    new ResizeObserver(() => place.clientWidth && this.plot?.setSize(this.size())).observe(place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.plot && this.draw());
  }

  size() {
    return { width: this.place.clientWidth, height: this.place.clientHeight - 16 };
  }

  // Where only the data are new, touches nothing else and keeps the cursor.
  show(picture, zone) {
    const lines = JSON.stringify([zone, picture.columns.map(({ label }) => label)]);
    const isOther = lines !== this.lines;
    Object.assign(this, { picture, zone, lines });
    if (isOther) this.draw();
    else this.plot.setData(this.data());
  }

  data() {
    const { texts, columns } = this.picture;
    return [texts.map((text) => Date.parse(text) / 1000), ...columns.map(({ values }) => values)];
  }

  draw() {
    this.plot?.destroy();
    const grid = { stroke: cssColor("line"), width: 1 };
    const axis = { stroke: cssColor("quiet"), grid, ticks: grid };
    const lines = this.picture.columns.map(({ label, series, previous }) => ({
      label, stroke: cssColor(`s${series + 1}`), ...(previous ? { width: 1.5, dash: [6, 5] } : { width: 2 }),
      points: { fill: cssColor("card"), filter: (plot, index, all) => (all ? null : lonely(plot.data[index])) },
    }));
    this.plot = new uPlot({
      ...this.size(), series: [{}, ...lines],
      axes: [{ ...axis, values: TICKS, space: 70 }, { ...axis, size: labelWidth }],
      legend: { show: false }, cursor: { drag: { x: true, y: false, setScale: false } },
      scales: { x: { range: () => [this.picture.from / 1000, this.picture.to / 1000] } },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), this.zone),
      hooks: { setCursor: [(plot) => this.onHover(plot.cursor.idx ?? null)], setSelect: [(plot) => this.zoom(plot)] },
    }, this.data(), this.place);
  }

  zoom(plot) {
    const { left, width } = plot.select;
    plot.setSelect({ left: 0, width: 0 }, false);
    if (width > 4) this.onZoom(...[left, left + width].map((pixel) => plot.posToVal(pixel, "x") * 1000));
  }
}
