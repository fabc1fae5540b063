// Vertical scales. What uPlot is given is moderate whatever the values are: divided by a power of ten or by the step of
// the unit (1024³, an hour) or, on a logarithmic scale, the logarithm. Ticks and labels lead back.

import { divisorOf, ticks } from "./numbers.js";

const TICKS = 6;

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].find((each) => each * power >= rough * 0.999) * power;
}

function linear(low, high, unit) {
  const size = Math.max(Math.abs(low), Math.abs(high));
  const divisor = divisorOf(unit, size);
  const found = divided(low, high, divisor);
  // the uppermost tick may be of the next step, as 1000 MiB are nearly 1 GiB
  const next = divisorOf(unit, Math.max(...found.values.map(Math.abs)));
  return next === divisor ? found : divided(low, high, next);
}

function divided(low, high, divisor) {
  const size = Math.max(Math.abs(low), Math.abs(high)) / divisor;
  const thousands = size > 0 && (size >= 1e9 || size < 1e-3) ? Math.floor(Math.log10(size) / 3) : 0;
  // 1e-309 is no double that has all digits, so one step isn't enough for the least values
  const power = Math.max(-300, Math.min(300, 3 * thousands));
  const to = (value) => (power < 0 ? (value / divisor) * 10 ** -power : value / divisor / 10 ** power);
  let [from, until] = [to(low), to(high)];
  if (until - from < Math.max(Math.abs(from), Math.abs(until)) * 1e-9 || from === until) {
    const room = Math.abs(from) * 0.1 || 1;
    [from, until] = [from === 0 ? 0 : from - room, until + room];
  }
  const step = niceStep((until - from) / TICKS);
  const [first, last] = [Math.floor(from / step + 1e-6), Math.ceil(until / step - 1e-6)];
  const splits = Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
  const back = (value) => (power < 0 ? value / 10 ** -power : value * 10 ** power) * divisor;
  return { to, range: [first * step, last * step], splits, values: splits.map(back) };
}

function logarithmic(low, high) {
  const [from, until] = [Math.log10(low), Math.log10(high)];
  const [first, last] = [Math.floor(from + 1e-9), Math.max(Math.ceil(until - 1e-9), Math.floor(from + 1e-9) + 1)];
  const every = Math.ceil((last - first) / 8);
  const marks = last - first <= 2 ? [1, 2, 5] : [1];
  const values = [];
  for (let power = first; power <= last; power += every) {
    for (const mark of marks) if (mark === 1 || power < last) values.push(mark * 10 ** power);
  }
  return { to: (value) => (value > 0 ? Math.log10(value) : null), range: [first, last], splits: values.map(Math.log10), values };
}

// The scale of some lists of values: {to, range, splits, labels}. It starts at 0 where lengths are compared.
export function scaleOf(lists, unit, { fromZero, isLog }) {
  let [low, high] = [Infinity, -Infinity];
  for (const values of lists) {
    for (const value of values) {
      if (value == null || (isLog && value <= 0)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (low > high) [low, high] = isLog ? [1, 10] : [0, 1];
  if (fromZero && !isLog) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  const scale = isLog ? logarithmic(low, high) : linear(low, high, unit);
  return { ...scale, labels: ticks(scale.values, unit) };
}
