// What chart, legend, table and CSV show: columns of values that share one list of timestamps, and what the API says of
// the whole range of each series.

import * as API from "./api.js";
import { formulasOf } from "./formulas.js";
import { granularityOf, windowOf } from "./state.js";
import { endOfBucket } from "./time.js";

const textOf = (instant) => new Date(instant).toISOString();
const settled = async (promise) => {
  try { return { found: await promise }; } catch (error) { return { error }; }
};

// Asks for every series, and for the period of the same length before. A series that is refused doesn't take the others
// with it: it stands among the failures. `ask` says how all is asked for, and how many buckets there may be.
export async function take(state, spacing, signal, { aggregates, statistics, mostPoints } = API) {
  const [from, to] = windowOf(state);
  const length = to - from;
  const granularity = granularityOf(state, length, spacing, mostPoints);
  const form = granularity === "none" ? {} : { fill: "null", timestamp: "bucket" };
  const question = { granularity, aggregationType: state.type, timezone: state.timezone, ...form };
  const within = (first, last) => ({ tsMin: textOf(first), tsMax: textOf(last) });
  const [now, before] = [within(from, to), within(from - length, from - 1)];
  const isBefore = from - length >= Date.parse("0001-01-01T00:00:00Z");
  const ask = (series) => [
    aggregates(series, { ...now, ...question }, signal), statistics(series, now, signal),
    isBefore ? statistics(series, before, signal) : null,
    state.compare && isBefore ? aggregates(series, { ...before, ...question }, signal) : [],
  ].map(settled);
  const answers = await Promise.all(state.series.map((series) => Promise.all(ask(series))));
  const failures = answers.flatMap(([...parts], index) => {
    const failed = [parts[0], parts[3], parts[1]].find(({ error }) => error);
    return failed ? [{ series: state.series[index], error: failed.error }] : [];
  });
  const items = (index, part) => answers[index][part].found ?? [];
  const buckets = answers.reduce((longest, _, index) => (items(index, 0).length > longest.length ? items(index, 0) : longest), []);
  // The first bucket of the previous period is set beside the first of this one, and so on: days stay days, whatever
  // the clocks did. Events, which have no buckets, are moved by the length of the window.
  const moved = ({ aggregatedTimestamp, value }, index) => ({ value, aggregatedTimestamp:
    granularity === "none" ? textOf(Date.parse(aggregatedTimestamp) + length) : buckets[index]?.aggregatedTimestamp });
  const columns = state.series.map((label, series) => {
    const [taken, whole, earlier] = answers[series];
    return { label, series, items: items(series, 0), statistics: whole.found ?? null, earlier: earlier.found ?? null,
      unit: whole.found?.unit ?? "", isRefused: Boolean(taken.error) };
  });
  if (state.compare) columns.push(...state.series.map((label, series) => ({ label: `${label} (previous period)`, series,
    previous: true, unit: columns[series].unit, items: items(series, 3).map(moved).filter((item) => item.aggregatedTimestamp) })));
  const picture = { from, to, granularity, type: state.type, failures, ...joined(columns) };
  picture.cut = cut(picture, state.timezone);
  picture.columns.push(...formulas(state, picture));
  return picture;
}

// A picture of the same series without any value, for what can't be shown in the buckets that were asked for.
export const emptied = (state, granularity) => ({ from: windowOf(state)[0], to: windowOf(state)[1], granularity, type: state.type,
  failures: [], cut: {}, texts: [], instants: [], columns: state.series.map((label, series) => ({ label, series, values: [],
    statistics: null, earlier: null, unit: "", isRefused: true })) });

// The columns that aren't hidden; a formula goes by its text, the previous period by its series.
export const visible = ({ columns }, { hidden, series }) => columns.filter((column) => !hidden.includes(column.text ?? series[column.series]));

// A value is null where a bucket is empty, and undefined where there is no item, as another series has one.
function joined(columns) {
  const [first] = columns;
  const isSame = columns.every(({ items }) => items.length === first.items.length && items.every(
    ({ aggregatedTimestamp }, row) => aggregatedTimestamp === first.items[row].aggregatedTimestamp));
  const texts = isSame ? (first?.items ?? []).map((item) => item.aggregatedTimestamp)
    : [...new Set(columns.flatMap(({ items }) => items.map((item) => item.aggregatedTimestamp)))];
  const at = new Map(texts.map((text) => [text, Date.parse(text)]));
  if (!isSame) texts.sort((a, b) => at.get(a) - at.get(b) || (a < b ? -1 : 1));
  const rows = isSame ? null : new Map(texts.map((text, row) => [text, row]));
  return { texts, instants: texts.map((text) => at.get(text)), columns: columns.map(({ items, ...column }) => {
    if (isSame) return { ...column, values: items.map(({ value }) => value) };
    const values = Array(texts.length).fill(undefined);
    for (const { aggregatedTimestamp, value } of items) values[rows.get(aggregatedTimestamp)] = value;
    return { ...column, values };
  }) };
}

// Which rows hold only a part of their bucket: the first, where the range begins within it ("cut"), and the last, where
// the range ends within it ("cut") or it is still filling ("filling").
function cut({ instants, from, to, granularity }, zone) {
  const rows = {};
  if (granularity === "none" || !instants.length) return rows;
  const last = instants.length - 1;
  if (instants[0] < from) rows[0] = "cut";
  const [now, end] = [Date.now(), endOfBucket(instants[last], granularity, zone)];
  if (end > now && instants[last] <= now) rows[last] = "filling";
  else if (end > to + 1) rows[last] = "cut";
  return rows;
}

function formulas(state, { columns }) {
  return formulasOf(state).map(({ text, label, written, places, does }, index) => {
    const [first, second] = places.map((place) => columns[place]);
    const key = { avg: "avg", sum: "sum", count: "count" }[state.type];
    const whole = key && first.statistics && second.statistics ? { formula: does(first.statistics[key], second.statistics[key]) } : null;
    return { label, written, text, formula: index, series: 6 + index, unit: "", statistics: whole,
      values: first.values.map((value, row) => does(value, second.values[row])) };
  });
}
