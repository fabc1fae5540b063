// The chart: uPlot, in the page's colours and the chosen time zone.

import uPlot from "../vendor/uplot-1.6.32/uPlot.esm.js";
import { cssColor, faint } from "./dom.js";
import { finite } from "./numbers.js";
import { visible } from "./picture.js";
import { scaleOf } from "./scales.js";
import { LAST } from "./state.js";
import { endOfBucket } from "./time.js";

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
const labelWidth = (plot, labels) => 24 + 7 * Math.max(3, ...(labels ?? []).map((label) => label.length));
const [DASH, PREVIOUS] = [[3, 4], [8, 5]];

// Lines end at gaps; a value between two gaps would be no line at all, and is drawn as a point.
function lonely(values) {
  const rows = [...values.keys()].filter((row) => values[row] !== undefined);
  return rows.filter((row, at) => values[row] !== null && values[rows[at - 1]] == null && values[rows[at + 1]] == null);
}

// Gaps that are no longer than three times what usually lies between two values are no gaps: those values come
// regularly, but not in each bucket.
function joinedUp(values, gaps) {
  if (gaps === "show") return values;
  const rows = [...values.keys()].filter((row) => values[row] != null);
  const steps = rows.slice(1).map((row, at) => row - rows[at]);
  const usual = steps.toSorted((a, b) => a - b)[steps.length >> 1] ?? 1;
  const most = gaps === "join" ? Infinity : usual === 1 ? 1 : 3 * usual;
  const joined = values.slice();
  steps.forEach((step, at) => { if (step <= most) joined.fill(undefined, rows[at] + 1, rows[at + 1]); });
  return joined;
}

export class Chart {
  // `behind` draws what lies behind the lines, and `onDraw` is told of a chart that is drawn.
  constructor(place, onZoom, onHover, { behind = () => {}, onDraw = () => {} } = {}) {
    Object.assign(this, { place, onZoom, onHover, behind, onDraw });
    new ResizeObserver(() => place.clientWidth && this.plot?.setSize(this.size())).observe(place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.plot && this.draw());
  }

  size() {
    return { width: this.place.clientWidth, height: this.place.clientHeight - 16 };
  }

  // Where only the data are new, touches nothing else and keeps the cursor.
  show(picture, state) {
    Object.assign(this, { picture, zone: state.timezone, look: state });
    this.prepare();
    const shape = JSON.stringify([state.timezone, state.kind, this.scales.map(({ key, unit }) => [key, unit]),
      this.lines.map(({ column, part, scale }) => [column.label, column.series, part, scale])]);
    const isOther = shape !== this.shape;
    this.shape = shape;
    if (isOther || !this.plot) this.draw();
    else this.plot.setData(this.data);
  }

  // The lines, and what uPlot is given of each: whole buckets, and apart from them those of which only a part is there.
  prepare() {
    const { picture: { cut, instants, type }, look } = this;
    const isStacked = look.kind === "stacked";
    const shown = visible(this.picture, look);
    const units = [...new Set(shown.map(({ unit }) => unit))];
    const scaleKey = (column) => {
      if (look.axes === "own") return `own${column.series}`;
      if (column.formula !== undefined && shown.some(({ formula }) => formula === undefined)) return "second";
      const isSecond = units.length > 1 ? column.unit !== units[0] : column.series !== shown[0]?.series;
      return look.axes === "two" && isSecond ? "second" : "y";
    };
    const sums = new Map();
    const drawn = shown.map((column) => {
      const [key, isPile] = [scaleKey(column), isStacked && !column.previous && column.formula === undefined];
      const below = (isPile && sums.get(key)) || [];
      const values = column.values.map((value, row) => (below[row] == null ? value : finite((value ?? 0) + below[row])));
      if (isPile) sums.set(key, values);
      return { column, key, isPile, values };
    });
    const isLog = look.scale === "log" && !isStacked;
    const fromZero = ["sum", "count", "rate"].includes(type) || look.kind !== "line";
    this.scales = [...new Set(drawn.map(({ key }) => key))].map((key) => {
      const own = drawn.filter((each) => each.key === key);
      const unit = own.every(({ column }) => column.unit === own[0].column.unit) ? own[0].column.unit : "";
      return { key, unit, ...scaleOf(own.map(({ values }) => values), unit, { fromZero, isLog }) };
    });
    const parts = Object.keys(cut).map(Number);
    this.lines = [];
    this.data = [instants.map((each) => each / 1000)];
    for (const { column, key, isPile, values } of drawn) {
      const { to } = this.scales.find((scale) => scale.key === key);
      const scaled = values.map((value) => (value == null ? value : to(value)));
      const isBars = look.kind === "bars" && column.formula === undefined && !column.previous;
      const full = isBars ? scaled.slice() : joinedUp(scaled, look.gaps);
      const partial = parts.length ? Array(scaled.length).fill(null) : null;
      for (const row of parts) {
        partial[row] = scaled[row];
        if (isBars) continue; // a line leads there from the next whole bucket
        const beside = row === 0 ? full.findIndex((value, at) => at > 0 && value !== undefined)
          : full.findLastIndex((value, at) => at < row && value !== undefined);
        if (full[beside] == null) continue;
        partial[beside] = full[beside];
        partial.fill(undefined, Math.min(row, beside) + 1, Math.max(row, beside));
      }
      const whole = full.slice();
      for (const row of parts) whole[row] = null;
      for (const [part, part_values] of [["full", whole], ["partial", partial]]) {
        if (!part_values) continue;
        this.lines.push({ column, part, scale: key, isPile, isBars });
        this.data.push(part_values);
      }
    }
  }

  draw() {
    const cursor = this.plot?.cursor;
    this.plot?.destroy();
    const grid = { stroke: cssColor("line"), width: 1 };
    const axis = { stroke: cssColor("quiet"), grid, ticks: grid };
    const scaleAxis = (key, more) => ({ ...axis, scale: key, size: labelWidth, ...more,
      splits: () => this.scale(key).splits, values: () => this.scale(key).labels,
      // uPlot's own steps end at 17 digits; any that is longer than the axis makes it ask for the splits above
      incrs: (plot, index, min, max) => [Math.max(5, max - min)] });
    const axes = this.scales.filter(({ key }) => key === "y" || key === "second").map(({ key }) =>
      scaleAxis(key, key === "second" ? { side: 1, grid: { show: false } } : {}));
    const scales = Object.fromEntries(this.scales.map(({ key }) => [key, { range: () => this.scale(key).range }]));
    this.plot = new uPlot({
      ...this.size(), series: [{}, ...this.lines.map((line, index) => this.line(line, index))],
      axes: [{ ...axis, values: TICKS, space: 70 }, ...axes],
      bands: this.bands(), legend: { show: false },
      cursor: { drag: { x: true, y: false, setScale: false }, bind: { dblclick: () => null },
        points: { size: 9, width: 2, fill: (plot, index) => this.color(this.lines[index - 1]), stroke: () => cssColor("card") } },
      scales: { x: { range: () => this.range() }, ...scales },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), this.zone),
      hooks: { drawAxes: [(plot) => this.behind(plot)], draw: [(plot) => this.onDraw(plot)], setSelect: [(plot) => this.zoom(plot)],
        setCursor: [(plot) => this.onHover(plot.cursor.idx ?? null, plot)] },
    }, this.data, this.place);
    if (cursor?.left >= 0) this.plot.setCursor({ left: cursor.left, top: cursor.top });
  }

  scale(key) {
    return this.scales.find((each) => each.key === key) ?? { range: [0, 1], splits: [], labels: [] };
  }

  color({ column }) {
    return cssColor(`s${column.series + 1}`);
  }

  line(line, index) {
    const { column, part, scale, isPile, isBars } = line;
    const [color, isPart] = [this.color(line), part === "partial"];
    const stroke = isPart ? faint(color, 70) : color;
    const isFilled = (isPile || (this.look.kind === "area" && !column.previous && column.formula === undefined)) && !isBars;
    const shape = { label: column.label, scale, stroke, width: column.previous ? 1.5 : 2,
      dash: isPart && !isBars ? DASH : column.previous ? PREVIOUS : undefined,
      fill: isBars ? faint(color, isPart ? 25 : 75) : isFilled ? faint(color, isPart ? 10 : isPile ? 45 : 25) : undefined,
      fillTo: (plot, at, low) => (this.look.scale === "log" && !isPile ? this.scale(scale).range[0] : 0),
      points: { size: 6, fill: stroke, filter: (plot, at, all) => (all ? null : lonely(plot.data[at])) } };
    return isBars ? { ...shape, width: 1, dash: isPart ? DASH : undefined, points: { show: false }, paths: this.bars(line) } : shape;
  }

  // The bars of a bucket stand beside each other, from its start on.
  bars({ column }) {
    const together = [...new Set(this.lines.filter((each) => each.isBars).map((each) => each.column))];
    const width = () => {
      const [xs] = this.data;
      let least = this.range()[1] - xs.at(-1);
      for (let row = 1; row < xs.length; row++) least = Math.min(least, xs[row] - xs[row - 1]);
      return least * 0.9 / together.length;
    };
    const place = together.indexOf(column);
    return uPlot.paths.bars({ disp: {
      x0: { unit: 1, values: () => { const own = width(); return this.data[0].map((x) => x + own * (place + 0.05)); } },
      size: { unit: 1, values: () => [width()] },
    } });
  }

  // From when until when, in seconds: where there are bars, so that all of a bucket is seen of which the range has a part.
  range() {
    const { picture: { from, to, instants, granularity }, zone } = this;
    const isWhole = granularity !== "none" && instants.length > 0 && this.lines.some(({ isBars }) => isBars);
    const ends = isWhole ? [Math.min(from, instants[0]), Math.max(to, Math.min(endOfBucket(instants.at(-1), granularity, zone), LAST))] : [from, to];
    return ends.map((end) => end / 1000);
  }

  bands() {
    const piles = (part) => this.lines.flatMap((line, index) => (line.isPile && line.part === part ? [[index + 1, line.scale]] : []));
    return ["full", "partial"].flatMap((part) => piles(part).flatMap(([above, scale], index, all) => {
      const below = all.slice(0, index).findLast((each) => each[1] === scale);
      return below ? [{ series: [above, below[0]] }] : [];
    }));
  }

  zoom(plot) {
    const { left, width } = plot.select;
    plot.setSelect({ left: 0, width: 0 }, false);
    if (width > 4) this.onZoom(...[left, left + width].map((pixel) => plot.posToVal(pixel, "x") * 1000));
  }
}
