// What is shown, and the URL that says so: series (repeated), range or from and to, granularity, type, timezone, …

import { byId } from "./dom.js";
import { isZone } from "./time.js";

const [MINUTE, HOUR, DAY] = [6e4, 36e5, 864e5];
const LENGTHS = { minute: MINUTE, hour: HOUR, day: DAY, week: 7 * DAY, month: 30.44 * DAY, year: 365.25 * DAY };
const RANGE_UNITS = { m: MINUTE, h: HOUR, d: DAY, y: 365 * DAY };
const [FEW_POINTS, MOST_POINTS] = [24, 2000];
// The API knows the years 1 to 9999.
export const [FIRST, LAST] = [Date.parse("0001-01-01T00:00:00Z"), Date.parse("9999-12-31T23:59:59Z")];
const timezone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const DEFAULTS = { range: "", granularity: "auto", type: "avg", refresh: "0", timezone };
// Written to the URL only where another is chosen.
const SHAPE = { kind: "line", gaps: "auto", scale: "linear", axes: "one", rows: "oldest" };
export const CHOSEN = [...Object.keys(DEFAULTS), ...Object.keys(SHAPE)];
export const [MOST_SERIES, MOST_FORMULAS] = [6, 2];

const fields = byId("controls").elements;
// Where a page has no field for it, as a board hasn't, it was checked when it was stored.
const isChoice = (key, value) => (key === "timezone" ? isZone(value)
  : fields[key] ? [...fields[key].options].some((option) => option.value === value) : typeof value === "string");

// As the API reads it: without an offset it is UTC.
const instant = (text) => Date.parse(/T.*(Z|[+-]\d\d:?\d\d)$|^[\d-]+$/i.test(text ?? "") ? text : `${text}Z`);

// Where it names no choice there is, the default; for the range that is none.
export function read(query) {
  const given = new URLSearchParams(query);
  const series = new Set(given.getAll("series").filter((each) => /^[^/]+\/[^/]+$/.test(each)));
  const state = { series: [...series].slice(0, MOST_SERIES) };
  const defaults = { ...DEFAULTS, ...SHAPE };
  for (const key of CHOSEN) state[key] = [given.get(key), defaults[key]].find((value) => isChoice(key, value)) ?? "";
  Object.assign(state, { compare: given.has("compare"), view: given.get("view") === "table" ? "table" : "chart" });
  state.hidden = given.getAll("hide");
  state.formulas = given.getAll("formula").slice(0, MOST_FORMULAS);
  const [from, to] = [instant(given.get("from")), instant(given.get("to"))];
  if (from < to) return { ...state, range: "custom", from: Math.max(from, FIRST), to: Math.min(to, LAST) };
  return state.range === "custom" ? { ...state, range: "" } : state;
}

export function write(state) {
  const query = new URLSearchParams(state.series.map((each) => ["series", each]));
  if (state.range === "custom") for (const end of ["from", "to"]) query.set(end, new Date(state[end]).toISOString());
  for (const key of CHOSEN) if (state[key] !== "custom" && state[key] !== SHAPE[key]) query.set(key, state[key]);
  for (const each of state.formulas) query.append("formula", each);
  for (const each of state.hidden) query.append("hide", each);
  if (state.compare) query.set("compare", "1");
  if (state.view === "table") query.set("view", "table");
  return `?${query}`;
}

export const lengthOf = (range) => parseInt(range, 10) * RANGE_UNITS[range.at(-1)];

// Both ends; those of a range end with the second that has begun.
export function windowOf(state) {
  if (state.range === "custom") return [state.from, state.to];
  const to = Math.ceil(Date.now() / 1000) * 1000;
  return [to - lengthOf(state.range), to];
}

// A window of its own, no narrower than the finest bucket, within the years that there are; a factor widens it.
export function zoomed(state, from, to, factor = 1) {
  const [middle, half] = [(from + to) / 2, Math.max((to - from) * factor, MINUTE) / 2];
  const ends = [Math.floor(middle - half), Math.ceil(middle + half)];
  return { ...state, range: "custom", from: Math.max(ends[0], FIRST), to: Math.min(ends[1], LAST) };
}

// Twice as wide, but not beyond the events and some space beside them; the window itself where it is as wide as that.
export function widened(state, [first, last]) {
  const [from, to] = windowOf(state);
  const space = Math.max((last - first) / 10, DAY);
  const wider = zoomed(state, from, to, 2);
  wider.from = Math.min(from, Math.max(wider.from, first - space, FIRST));
  wider.to = Math.max(to, Math.min(wider.to, last + space, LAST));
  return wider;
}

// As long as it is, so many of its lengths later; not beyond the years that there are.
export function moved(state, lengths) {
  const [from, to] = windowOf(state);
  const by = Math.min(Math.max((to - from) * lengths, FIRST - from), LAST - to);
  return zoomed(state, from + by, to + by);
}

// The finest that makes no more points than a screen shows; a coarser one where events are further apart than that,
// as long as some points are left to see.
export function granularityOf(state, length, spacing, mostPoints = MOST_POINTS) {
  if (state.granularity !== "auto") return state.granularity;
  const fitting = Object.keys(LENGTHS).filter((each) => length / LENGTHS[each] <= mostPoints);
  const enough = fitting.filter((each) => length / LENGTHS[each] >= FEW_POINTS);
  return enough.find((each) => LENGTHS[each] >= spacing) ?? enough.at(-1) ?? fitting[0] ?? "year";
}
