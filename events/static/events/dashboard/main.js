// The dashboard: a state, the picture that the API gives of it, and the controls that change it.

import { APIError, catalogue, lineOf, MOST_LISTED } from "./api.js";
import { Chart } from "./chart.js";
import { byId, element } from "./dom.js";
import { legend, legendValues } from "./legend.js";
import { take } from "./picture.js";
import { png, save } from "./save.js";
import { CHOSEN, lengthOf, MOST_SERIES, read, windowOf, write, zoomed } from "./state.js";
import { csv, table } from "./table.js";
import { instantOf, localText, zonedText } from "./time.js";

const DAY = 864e5;
const fields = byId("controls").elements;
const chart = new Chart(byId("chart"), (from, to) => change(zoomed(state, from, to)), hover);
let state, picture, drawn, timer, loading, known, isWhole, searching;

const bySeries = (lines) => new Map(lines.map((line) => [`${line.namespace}/${line.name}`, line]));
const offer = (found) =>
  byId("choices").replaceChildren(...[...found.keys()].map((series) => element("option", { value: series })));

// Of a large catalogue only the first series are known, and those that are shown.
async function refreshCatalogue(shown = state?.series ?? []) {
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
  searching = setTimeout(() => catalogue(value).then((lines) => offer(bySeries(lines)), fail), 250);
}

const lastOf = (series) => Math.max(...series.map((each) => Date.parse(known.get(each)?.lastTimestamp ?? 0)));
const ending = (of, last, length) => zoomed(of, last + 1000 - length, last + 1000);

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
  load();
}

async function load() {
  clearTimeout(timer);
  loading?.abort();
  const { signal } = (loading = new AbortController());
  const outcome = await take(state, spacing(), signal).catch((error) => error);
  if (signal.aborted) return;
  if (outcome instanceof Error) fail(outcome);
  else draw(outcome);
  if (state.refresh > 0) timer = setTimeout(() => document.hidden || load(), state.refresh * 1000);
}

function draw(taken) {
  picture = taken;
  byId("csv").disabled = byId("png").disabled = false;
  const remove = (series) => change({ ...state, series: state.series.filter((each) => each !== series) });
  if (drawn !== state) legend(state, remove); // not for a mere refresh: one of its buttons might have the focus
  drawn = state;
  const [from, to] = [picture.from, picture.to].map((end) => localText(end, state.timezone).replace("T", " "));
  const unit = picture.granularity === "none" ? "event" : picture.granularity;
  picture.summary = `${fields.type.selectedOptions[0].text} by ${unit}, ${from} to ${to}, ${state.timezone}`;
  byId("chart").setAttribute("aria-label", `Chart of ${state.series.join(", ")}. The table shows the same.`);
  if (state.view === "table") byId("table").replaceChildren(table(picture, state.timezone));
  else chart.show(picture, state.timezone);
  hover(state.view === "table" ? null : chart.plot.cursor.idx ?? null);
  const isEmpty = picture.columns.every(({ values }) => values.every((value) => value == null));
  if (!state.series.length) say("Add a series to see it.");
  else say(isEmpty ? "No events in this range." : "", isEmpty && lastOf(state.series) > 0 ? "latest" : "");
}

function hover(row) {
  legendValues(picture, row);
  byId("summary").textContent = row === null ? picture.summary : zonedText(picture.texts[row], state.timezone);
}

// With a way out: "latest" or "login". What is said already is left alone, so that it isn't read out again.
function say(text, way = "", isBad = false) {
  if (byId("text").textContent !== text) byId("text").textContent = text;
  byId("message").classList.toggle("bad", isBad);
  for (const each of ["latest", "login"]) byId(each).hidden = each !== way;
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
  if (!(await isThere(series))) return say(`There is no series “${series}”.`, "", true);
  target.value = "";
  if (state.series.length >= MOST_SERIES) say(`No more than ${MOST_SERIES} series: remove one first.`, "", true);
  else if (!state.series.includes(series)) change({ ...state, series: [...state.series, series] });
}

function showCustom(event) {
  event.preventDefault();
  const [from, to] = [fields.from, fields.to].map(({ value }) => instantOf(value, state.timezone));
  if (from < to) change({ ...state, from, to });
  else say("The range must end after it begins.", "", true);
}

function wire() {
  const zones = new Set(["UTC", ...Intl.supportedValuesOf("timeZone"), read(location.search).timezone]);
  fields.timezone.append(...[...zones].map((zone) => element("option", {}, zone)));
  const on = (id, does, event = "click") => byId(id).addEventListener(event, does);
  on("controls", showCustom, "submit");
  on("controls", ({ target: { name, value } }) => {
    const [from, to] = windowOf(state);
    if (!["from", "to"].includes(name)) change({ ...state, from, to, [name]: value, compare: fields.compare.checked });
  }, "change");
  on("zoom-in", () => change(zoomed(state, ...windowOf(state), 1 / 2)));
  on("zoom-out", () => change(zoomed(state, ...windowOf(state), 2)));
  const toLatest = () => change(ending(state, lastOf(state.series), picture.to - picture.from));
  on("latest", () => refreshCatalogue().then(toLatest, fail));
  on("view", () => change({ ...state, view: state.view === "table" ? "chart" : "table" }));
  on("csv", () => save(new Blob([csv(picture, state.timezone)], { type: "text/csv" }), "events.csv"));
  on("png", async () => save(await png(chart.plot, picture), "events.png"));
  on("picker", () => refreshCatalogue().catch(fail), "focus");
  on("picker", search, "input");
  for (const event of ["input", "change"]) on("picker", (of) => pick(of).catch(fail), event);
  addEventListener("popstate", () => change(completed(read(location.search)), { replace: true }));
  document.addEventListener("visibilitychange", () => document.hidden || (state?.refresh > 0 && load()));
}

// Waits for the first event, and then shows those that follow as they come.
async function start(found) {
  await refreshCatalogue(found.series);
  byId("first").hidden = known.size > 0;
  byId("dashboard").hidden = known.size === 0;
  if (known.size > 0) change(completed(found), { replace: true });
  else setTimeout(() => start({ ...found, refresh: "5" }).catch(fail), 5000);
}

for (const place of document.querySelectorAll(".origin")) place.textContent = location.origin;
wire();
start(read(location.search)).catch(fail);
