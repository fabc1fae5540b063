// Instants, in milliseconds since 1970, as the clocks of a time zone show them, and back.

const formats = new Map();
const DIGITS = { month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" };

function partsOf(instant, timeZone) {
  if (!formats.has(timeZone)) {
    const options = { ...DIGITS, year: "numeric", hourCycle: "h23", timeZoneName: "longOffset", timeZone };
    formats.set(timeZone, new Intl.DateTimeFormat("en-GB", options));
  }
  return Object.fromEntries(formats.get(timeZone).formatToParts(instant).map(({ type, value }) => [type, value]));
}

// 2026-10-25T02:00:00
export function localText(instant, zone) {
  const { year, month, day, hour, minute, second } = partsOf(instant, zone);
  return `${year.padStart(4, "0")}-${month}-${day}T${hour}:${minute}:${second}`;
}

// 2026-10-25T02:00:00+02:00, with the fraction that the API's text has
export function zonedText(text, zone) {
  const instant = Date.parse(text);
  const offset = partsOf(instant, zone).timeZoneName.slice(3).replace(/^(\+00:00)?$/, "Z");
  return localText(instant, zone) + (text.match(/\.\d+/) ?? "") + offset;
}

// Of a time that the clocks show twice the first, of one that they skip an hour later.
export function instantOf(text, zone) {
  const asUTC = Date.parse(`${text}Z`);
  const offsetAt = (instant) => Date.parse(`${localText(instant, zone)}Z`) - Math.floor(instant / 1000) * 1000;
  const before = asUTC - offsetAt(asUTC - 864e5);
  const found = asUTC - offsetAt(before);
  return found + offsetAt(found) === asUTC ? found : before;
}

// Whether it is a time zone, also by a name that this browser doesn't list: each lists one of several.
export function isZone(name) {
  try { return Boolean(partsOf(0, name)); } catch { return false; }
}

// The instant at which a bucket that starts at an instant is over, by the calendar of the zone.
export function endOfBucket(start, granularity, zone) {
  if (granularity === "minute") return start + 6e4;
  if (granularity === "hour") return start + 36e5;
  const clock = new Date(`${localText(start, zone)}Z`);
  const [part, by] = { day: ["Date", 1], week: ["Date", 7], month: ["Month", 1], year: ["FullYear", 1] }[granularity];
  clock.setUTCHours(0, 0, 0, 0); // where clocks skip midnight it starts later
  clock[`setUTC${part}`](clock[`getUTC${part}`]() + by);
  return !(clock.getUTCFullYear() <= 9999) ? Infinity : instantOf(clock.toISOString().slice(0, 19), zone);
}

// How long ago, in one word: 3 min ago.
export function ago(instant, now = Date.now()) {
  const seconds = Math.round((now - instant) / 1000);
  if (seconds < 0) return "in the future";
  const [size, unit] = [[86400 * 365, "y"], [86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([each]) => seconds >= each) ?? [1, "s"];
  return `${Math.floor(seconds / size)} ${unit} ago`;
}
