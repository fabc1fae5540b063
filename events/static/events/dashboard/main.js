// The chart's page: a state, the picture that the API gives of it, and the controls that change it.

import { APIError, catalogue, lineOf, MOST_LISTED } from "./api.js";
import { Chart } from "./chart.js";
import { byId, element, on, renew } from "./dom.js";
import { drawFirings, firingsOf, shadedText } from "./firings.js";
import { formulasOf, parsed, without } from "./formulas.js";
import { gestures } from "./gestures.js";
import { drawNotes, Marks, NoteDialog, notesOf } from "./notes.js";
import { entryOf, latestRow, legend, legendStatistics, legendValues } from "./legend.js";
import { emptied, take, visible } from "./picture.js";
import { repeated } from "./repeated.js";
import { fileName, png, save } from "./save.js";
import { CHOSEN, lengthOf, MOST_FORMULAS, MOST_SERIES, moved, read, widened, windowOf, write, zoomed } from "./state.js";
import { csv, table } from "./table.js";
import { Tooltip } from "./tooltip.js";
import { instantOf, localText, zonedText } from "./time.js";

const [DAY, RETRY_MILLISECONDS] = [864e5, 5000];
const fields = byId("controls").elements;
const tooltip = new Tooltip(byId("stage"));
const noteDialog = new NoteDialog(() => load());
const marks = new Marks(byId("notes"), (some) => noteDialog.open(some, state.timezone));
const chart = new Chart(byId("chart"), (from, to) => zoomTo(zoomed(state, from, to)), hover, {
  behind: (plot) => { drawFirings(plot, firings, state.hidden); drawNotes(plot, notes); },
  onDraw: (plot) => marks.show(plot, notes, state.timezone) });
let [notes, firings] = [[], []];
let state, picture, drawn, known = new Map(), isWhole, searching, unzoomed, noted, offers = 0;

const bySeries = (lines) => new Map(lines.map((line) => [`${line.namespace}/${line.name}`, line]));
// What was asked for last is what the list offers, whichever answer comes last.
function offering() {
  const number = ++offers;
  return (found) => number === offers &&
    byId("choices").replaceChildren(...[...found.keys()].map((series) => element("option", { value: series })));
}

// Of a large catalogue only the first series are known, and those that are shown.
async function refreshCatalogue(shown = state?.series ?? []) {
  const offer = offering();
  const found = bySeries(await catalogue());
  offer(found);
  isWhole = found.size < MOST_LISTED;
  known = found;
  await Promise.all(shown.map(isThere));
}

async function isThere(series) {
  if (known.has(series)) return true;
  const line = isWhole || !/^[^/]+\/[^/]+$/.test(series) ? null : await lineOf(series);
  if (line) known.set(series, line);
  return Boolean(line);
}

// What is typed is searched for where not all series are known.
function search({ target: { value } }) {
  clearTimeout(searching);
  if (isWhole || !value) return;
  searching = setTimeout(() => {
    const offer = offering();
    catalogue(value).then((lines) => offer(bySeries(lines)), fail);
  }, 250);
}

const lastOf = (series) => Math.max(...series.map((each) => Date.parse(known.get(each)?.lastTimestamp ?? 0)));
const ending = (of, last, length) => zoomed(of, last + 1000 - length, last + 1000);

// From the first event of the shown series to the last.
function extent() {
  const lines = state.series.map((each) => known.get(each)).filter(Boolean);
  if (!lines.length) return windowOf(state);
  return [Math.min(...lines.map((line) => Date.parse(line.firstTimestamp))), lastOf(state.series)];
}

function all() {
  const [first, last] = extent();
  change(zoomed(state, first, last + 1000));
}

// What the URL leaves open: the series with the newest event, and a range that shows it, and all of a young series.
function completed(found) {
  const newest = [...known.keys()].sort((a, b) => lastOf([b]) - lastOf([a])).slice(0, 1);
  const whole = { ...found, series: found.series.length ? found.series : newest };
  if (whole.range) return whole;
  const last = lastOf(whole.series);
  if (last > 0 && last < Date.now() - DAY) return ending(whole, last, 30 * DAY);
  const age = Date.now() - Date.parse(known.get(whole.series[0])?.firstTimestamp ?? 0);
  return { ...whole, range: ["15m", "1h", "6h"].find((each) => lengthOf(each) > age) ?? "24h" };
}

// The mean time between events of the densest series, in milliseconds; 0 where that can't be known.
function spacing() {
  const lines = state.series.map((each) => known.get(each)).filter((line) => line?.count > 1);
  const age = (line) => Date.parse(line.lastTimestamp) - Date.parse(line.firstTimestamp);
  return lines.length ? Math.min(...lines.map((line) => age(line) / (line.count - 1))) : 0;
}

// What stands beside the controls at once, before anything is asked: the legend, so that any series can be removed.
function change(to, { replace = false } = {}) {
  state = to;
  history[replace ? "replaceState" : "pushState"](null, "", write(state));
  for (const key of CHOSEN) fields[key].value = state[key];
  fields.compare.checked = state.compare;
  for (const part of document.querySelectorAll(".custom")) part.hidden = state.range !== "custom";
  [fields.from.value, fields.to.value] = windowOf(state).map((end) => localText(end, state.timezone));
  const isTable = state.view === "table";
  byId("view").setAttribute("aria-pressed", isTable);
  byId("table").hidden = !(byId("chart").hidden = byId("png").hidden = isTable);
  byId("order").hidden = !isTable;
  byId("to-board").href = byId("to-board").pathname + write(state);
  byId("zoom-out").disabled = windowOf(widened(state, extent())).join() === windowOf(state).join();
  document.title = `${state.series.join(", ") || "Chart"} – ${fields.type.selectedOptions[0].text} – Tracking API`;
  legend(state, formulasOf(state), { remove, toggle });
  load();
}

// The focus stays in the list: on the next entry's button, or else in the field that adds one.
function remove(key) {
  const place = [...byId("legend").children].findIndex((entry) => entry.dataset.key === key);
  const at = state.series.indexOf(key);
  const formulas = at < 0 ? state.formulas.filter((each) => each !== key) : without(state.formulas, at, state.series.length);
  change({ ...state, series: state.series.filter((each) => each !== key), formulas, hidden: state.hidden.filter((each) => each !== key) });
  const entries = byId("legend").children;
  (entries[Math.min(place, entries.length - 1)]?.querySelector(".remove") ?? byId("picker")).focus();
}

function toggle(key) {
  const hidden = state.hidden.includes(key) ? state.hidden.filter((each) => each !== key) : [...state.hidden, key];
  change({ ...state, hidden });
  entryOf(key)?.querySelector(".name").focus();
}

const load = repeated(byId("stage"), () => state?.refresh * 1000, async (signal) => {
  const [taken, ...happened] = await Promise.all([take(state, spacing(), signal),
    ...[notesOf, firingsOf].map((ask) => ask(state.series, windowOf(state), signal))]);
  if (signal.aborted) return;
  [notes, firings] = happened;
  const isAll = taken.failures.length === state.series.length && state.series.length > 0;
  if (!isAll) draw(taken);
  else if (drawn !== state) draw(emptied(state, taken.granularity));
  if (taken.failures.length) failed(taken.failures, isAll && drawn === state && picture.texts.length > 0);
}, (error) => {
  say("This can’t be drawn.", "", true);
  reportError(error);
});

function draw(taken) {
  picture = taken;
  byId("csv").disabled = byId("png").disabled = !picture.texts.length;
  drawn = state;
  const [from, to] = [picture.from, picture.to].map((end) => localText(end, state.timezone).replace("T", " "));
  const unit = picture.granularity === "none" ? "event" : picture.granularity;
  picture.summary = `${fields.type.selectedOptions[0].text} by ${unit}, ${from} to ${to}, ${state.timezone}`;
  byId("chart").setAttribute("aria-label", `Chart of ${state.series.join(", ")}. Arrow keys read it value by value; the table shows the same.`);
  byId("parts").textContent = partsText(picture);
  legendStatistics(picture);
  if (state.view === "table") marks.hide();
  if (state.view === "table") table(picture, state);
  else chart.show(picture, state);
  hover(state.view === "table" ? null : chart.plot.cursor.idx ?? null, chart.plot);
  const isEmpty = picture.columns.every(({ values }) => values.every((value) => value == null));
  const missing = state.series.filter((each) => !known.has(each));
  if (!state.series.length) say("Add a series to see it.");
  else if (missing.length) say(`There is no series ${missing.map((each) => `“${each}”`).join(" nor ")}.`);
  else if (noted !== state) say(isEmpty ? "No events in this range." : "", isEmpty && lastOf(state.series) > 0 ? "latest" : "");
}

// What is dashed and shaded, in words.
function partsText({ cut, instants, granularity, columns }) {
  const [first, last] = [0, instants.length - 1].map((row) => columns.some(({ values }) => values[row] != null) && cut[row]);
  const words = [];
  if (first === "cut") words.push(`the first ${granularity} is cut by the range’s start`);
  if (last === "filling") words.push(`the last ${granularity} is still filling`);
  else if (last === "cut" && instants.length > 1) words.push(`the last ${granularity} is cut by the range’s end`);
  return [words.length ? `Dashed: ${words.join(", and ")}.` : "", shadedText(firings)].filter(Boolean).join(" ");
}

function hover(row, plot) {
  if (!picture) return;
  const at = row !== null && row < picture.texts.length ? row : null;
  legendValues(picture, at, (series) => known.has(series) || !isWhole);
  const note = at === null ? "" : { filling: " (still filling)", cut: " (part)" }[picture.cut[at]] ?? "";
  byId("summary").textContent = at === null ? picture.summary : zonedText(picture.texts[at], state.timezone) + note;
  if (at === null || !plot || !(plot.cursor.left >= 0) || state.view === "table") return tooltip.hide();
  tooltip.show(plot, zonedText(picture.texts[at], state.timezone).replace("T", " ") + note, visible(picture, state), at);
}

// What answers something that was just done stays until something else is shown, whatever is drawn meanwhile.
function note(text) {
  say(text, "", true);
  noted = state;
}

// With a way out: "latest" or "login". What is said already is left alone, so that it isn't read out again.
function say(text, way = "", isBad = false) {
  renew(byId("text"), text);
  byId("message").hidden = !text;
  byId("message").classList.toggle("bad", isBad);
  for (const each of ["latest", "login"]) byId(each).hidden = each !== way;
}

// One sentence for each refusal, with the series that it is about, where not all of several say the same.
function failed(failures, isOld) {
  const broken = failures.find(({ error }) => !(error instanceof APIError));
  if (broken) throw broken.error;
  const out = failures.find(({ error }) => [401, 403].includes(error.status));
  if (out) return fail(out.error);
  const texts = new Map();
  for (const { series, error } of failures) texts.set(error.message, [...(texts.get(error.message) ?? []), series]);
  const isOfAll = failures.length === state.series.length && texts.size === 1 && failures[0].error.status === 0;
  const words = [...texts].map(([text, series]) => (isOfAll ? text : `${series.join(", ")}: ${text}`)).join(" ");
  say(isOld ? `${words} What is shown is older.` : words, "", true);
}

function fail(error) {
  if (!(error instanceof APIError)) throw error;
  const back = new URLSearchParams({ next: location.pathname + location.search });
  byId("login").href = `${document.body.dataset.login}?${back}`;
  const isOut = error.status === 401;
  say(isOut ? "You are signed out." : error.message, isOut || error.status === 403 ? "login" : "", true);
}

// A choice from the list comes whole; what is typed counts once it is finished.
async function pick({ target, type, inputType = "insertReplacementText" }) {
  const series = target.value;
  if (!series || (type === "input" && inputType !== "insertReplacementText")) return;
  clearTimeout(searching);
  if (!(await isThere(series))) return note(`There is no series “${series}”.`);
  target.value = "";
  if (state.series.length >= MOST_SERIES) note(`No more than ${MOST_SERIES} series: remove one first.`);
  else if (!state.series.includes(series)) change({ ...state, series: [...state.series, series] });
}

function showCustom(event) {
  event.preventDefault();
  const [from, to] = [fields.from, fields.to].map(({ value }) => instantOf(value, state.timezone));
  if (from < to) change({ ...state, from, to });
  else note("The range must end after it begins.");
}

function addFormula() {
  const text = fields.formula.value.trim();
  if (!text) return;
  if (!parsed(text, state.series.length)) return note("A formula is such as “hit rate = A / B”, with the letters of the series below.");
  if (state.formulas.length >= MOST_FORMULAS) return note(`No more than ${MOST_FORMULAS} formulas: remove one first.`);
  fields.formula.value = "";
  if (!state.formulas.includes(text)) change({ ...state, formulas: [...state.formulas, text] });
}

// Where the cursor is, or else in the middle of what is shown.
function annotate() {
  const at = picture?.instants[chart.plot?.cursor.idx ?? -1];
  const [from, to] = windowOf(state);
  noteDialog.add([...new Set(state.series.map((each) => each.split("/")[0]))], at ?? (from + to) / 2, state.timezone);
}

// Back to the range before the first zoom in a row; where there was none, to all events.
function reset() {
  if (unzoomed) change({ ...state, range: unzoomed.range, from: unzoomed.from, to: unzoomed.to });
  else all();
  unzoomed = null;
}

function zoomTo(to) {
  unzoomed ??= state;
  change(to);
}

function wire() {
  const zones = new Set(["UTC", ...Intl.supportedValuesOf("timeZone"), read(location.search).timezone]);
  fields.timezone.append(...[...zones].map((zone) => element("option", {}, zone)));
  on("controls", showCustom, "submit");
  on("controls", ({ target: { name, value } }) => {
    if (name === "formula") return addFormula();
    const [from, to] = windowOf(state);
    unzoomed = null;
    if (!["from", "to"].includes(name)) change({ ...state, from, to, [name]: value, compare: fields.compare.checked });
  }, "change");
  gestures(byId("chart"), { plotOf: () => chart.plot, onMove: (by) => change(moved(state, by)), onReset: reset,
    onZoom: (factor) => zoomTo(factor > 1 ? widened(state, extent()) : zoomed(state, ...windowOf(state), factor)) });
  on("earlier", () => change(moved(state, -1 / 2)));
  on("later", () => change(moved(state, 1 / 2)));
  on("zoom-in", () => change(zoomed(state, ...windowOf(state), 1 / 2)));
  on("zoom-out", () => change(widened(state, extent())));
  on("all", () => refreshCatalogue().then(all, fail));
  const toLatest = () => change(ending(state, lastOf(state.series), picture.to - picture.from));
  on("latest", () => refreshCatalogue().then(toLatest, fail));
  on("dismiss", () => { byId("message").hidden = true; });
  byId("annotate")?.addEventListener("click", annotate);
  on("view", () => change({ ...state, view: state.view === "table" ? "chart" : "table" }));
  on("csv", () => save(new Blob([csv(picture, state.timezone)], { type: "text/csv" }), fileName(picture, "csv")));
  on("png", async () => save(await png(chart.plot, picture, latestRow), fileName(picture, "png")));
  on("picker", () => refreshCatalogue().catch(fail), "focus");
  on("picker", search, "input");
  for (const event of ["input", "change"]) on("picker", (of) => pick(of).catch(fail), event);
  addEventListener("popstate", () => change(completed(read(location.search)), { replace: true }));
  byId("more").open = matchMedia("(min-width: 48rem)").matches;
}

// Waits for the service and for the first event, and then shows those that follow as they come.
async function start(found) {
  try {
    await refreshCatalogue(found.series);
  } catch (error) {
    byId("waiting").textContent = error instanceof APIError ? error.message : "This can’t be shown.";
    setTimeout(() => start(found), RETRY_MILLISECONDS);
    if (!(error instanceof APIError)) throw error;
    return;
  }
  byId("first").hidden = known.size > 0;
  byId("dashboard").hidden = known.size === 0;
  if (known.size > 0) change(completed(found), { replace: true });
  else setTimeout(() => start({ ...found, refresh: "5" }), RETRY_MILLISECONDS);
}

wire();
start(read(location.search));
