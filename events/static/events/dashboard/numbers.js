// Numbers as people read them: short, and in the unit of their series.

const [NUMERIC, GAP] = ["en-GB", "\u202f"];
const DECIMAL = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
const BINARY = [..."EPTGMK"].map((letter, index) => [1024 ** (6 - index), `${letter}iB`]).concat([[1, "B"]]);
const TIMES = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]];
const FROM = { d: 2 * 86400, h: 2 * 3600, min: 120 };

const digits = new Map();
function format(value, options) {
  const key = JSON.stringify(options);
  if (!digits.has(key)) digits.set(key, new Intl.NumberFormat(NUMERIC, options));
  return digits.get(key).format(value);
}

// What a value of this size is divided by, and what is written after it. "" is a plain number; any word that is no
// known unit is one that is counted, such as EUR.
function steps(unit, size) {
  const after = unit && !["number", "bytes", "percent", "seconds"].includes(unit) ? `${GAP}${unit}` : "";
  if (size >= 1e21) return [1, after];
  const [list, from] = unit === "bytes" ? [BINARY, {}] : unit === "seconds" ? [TIMES, FROM] : [DECIMAL, {}];
  if (unit === "percent") return [1, `${GAP}%`];
  const found = list.find(([step, name]) => size >= (from[name] ?? step)) ?? (unit === "seconds" ? list.at(-1) : [1, list.at(-1)[1]]);
  return [found[0], (found[1] && `${GAP}${found[1]}`) + after];
}

// What the values of a scale are divided by, where steps of a power of ten would be none of the unit.
export const divisorOf = (unit, size) => (["bytes", "seconds"].includes(unit) && size >= 1e-9 ? steps(unit, size)[0] : 1);

const isPlain = (size) => size === 0 || (size >= 1e-4 && size < 1e21);

// What is beyond a double is no value.
export const finite = (value) => (Number.isFinite(value) ? value : null);

// A value with so many significant digits, and all before the point: 181,524, 1.6 T, 3.2 GiB, 250 ms.
export function short(value, unit = "", most = 4) {
  if (value == null) return "–";
  const size = Math.abs(value);
  const isShort = unit ? true : size >= 1e6;
  const [divisor, after] = isShort ? steps(unit, size || 1) : [1, ""];
  const scaled = value / divisor;
  const tooFar = !isPlain(Math.abs(scaled));
  return format(scaled, tooFar ? { notation: "scientific", maximumSignificantDigits: most }
    : { maximumSignificantDigits: Math.max(most, String(Math.round(Math.abs(scaled))).length) }) + after;
}

// As many as a step of an axis has: 1 of 2.5, though 2 of 0.25.
function decimalsOf(step) {
  const least = Math.min(12, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
  const digit = step * 10 ** least;
  return Math.abs(digit - Math.round(digit)) < 1e-6 ? least : least + 1;
}

// Labels of an axis: all by the same step, with as many decimals as tell them apart.
export function ticks(values, unit) {
  if (!values.every(Number.isFinite)) return values.map((each) => (Number.isFinite(each) ? short(each, unit, 3) : ""));
  const size = Math.max(...values.map(Math.abs));
  const least = Math.min(...values.map(Math.abs).filter(Boolean));
  if (size / least > 1e3 && values[0] > 0) return values.map((each) => short(each, unit, 3)); // a logarithmic scale
  const [divisor, after] = size < 1e4 && !unit ? [1, ""] : steps(unit, size || 1);
  const step = Math.min(...values.slice(1).map((each, index) => Math.abs(each - values[index]))) / divisor;
  const largest = size / divisor;
  if (values.length && !(isPlain(largest) && (largest === 0 || largest >= 1e-3))) {
    const most = Math.min(15, Math.max(1, Math.ceil(Math.log10(largest / step)) + 1));
    return values.map((each) => (each === 0 ? "0" : format(each / divisor, { notation: "scientific", maximumSignificantDigits: most }) + after));
  }
  const decimals = Number.isFinite(step) && step > 0 ? decimalsOf(step) : 3;
  return values.map((each) => (each === 0 ? "0" : format(each / divisor, { maximumFractionDigits: decimals }) + after));
}

// Without loss that matters, for a table.
export const whole = (value) => (value == null ? "" : isPlain(Math.abs(value))
  ? format(value, { maximumSignificantDigits: Math.abs(value) >= 1e6 ? 15 : 6 })
  : format(value, { notation: "scientific", maximumSignificantDigits: 6 }));

export const percent = (share) => format(share, { style: "percent", maximumSignificantDigits: 3, signDisplay: "exceptZero" });
