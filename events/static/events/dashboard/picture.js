// What chart, legend, table and CSV show: columns of values that share one list of timestamps.

import { aggregates } from "./api.js";
import { granularityOf, windowOf } from "./state.js";

const textOf = (instant) => new Date(instant).toISOString();

// Asks for every series, and for the period of the same length before, where that is to be compared.
export async function take(state, spacing, signal) {
  const [from, to] = windowOf(state);
  const length = to - from;
  const granularity = granularityOf(state, length, spacing);
  const form = granularity === "none" ? {} : { fill: "null", timestamp: "bucket" };
  const question = { granularity, aggregationType: state.type, timezone: state.timezone, ...form };
  const ask = (first, last) => (series) =>
    aggregates(series, { tsMin: textOf(first), tsMax: textOf(last), ...question }, signal);
  const [now, before] = await Promise.all([
    Promise.all(state.series.map(ask(from, to))),
    Promise.all(state.compare ? state.series.map(ask(from - length, from - 1)) : []),
  ]);
  const buckets = now.reduce((longest, items) => (items.length > longest.length ? items : longest), []);
  // The first bucket of the previous period is set beside the first of this one, and so on: days stay days, whatever
  // the clocks did. Events, which have no buckets, are moved by the length of the window.
  const moved = ({ aggregatedTimestamp, value }, index) => ({ value, aggregatedTimestamp:
    granularity === "none" ? textOf(Date.parse(aggregatedTimestamp) + length) : buckets[index]?.aggregatedTimestamp });
  const columns = [
    ...now.map((items, index) => ({ label: state.series[index], series: index, items })),
    ...before.map((items, index) => ({ label: `${state.series[index]} (previous period)`, series: index, previous: true,
      items: items.map(moved).filter((item) => item.aggregatedTimestamp) })),
  ];
  return { from, to, granularity, ...joined(columns) };
}

// A value is null where a bucket is empty, and undefined where there is no item, as another series has one.
function joined(columns) {
  const texts = [...new Set(columns.flatMap(({ items }) => items.map((item) => item.aggregatedTimestamp)))];
  texts.sort((a, b) => Date.parse(a) - Date.parse(b) || (a < b ? -1 : 1));
  const rows = new Map(texts.map((text, row) => [text, row]));
  return { texts, columns: columns.map(({ items, ...column }) => {
    const values = Array(texts.length).fill(undefined);
    for (const { aggregatedTimestamp, value } of items) values[rows.get(aggregatedTimestamp)] = value;
    return { ...column, values };
  }) };
}
