// A board: several charts with one range, zone and refresh over all, asked for together.

import { APIError, call, refusal } from "./api.js";
import { Chart } from "./chart.js";
import { byId, element, on } from "./dom.js";
import { drawFirings, firingsOf, shadedText } from "./firings.js";
import { short } from "./numbers.js";
import { latestRow } from "./legend.js";
import { drawNotes, Marks, NoteDialog, notesOf } from "./notes.js";
import { emptied, take, visible } from "./picture.js";
import { repeated } from "./repeated.js";
import { moved, read, windowOf, write, zoomed } from "./state.js";
import { Tooltip } from "./tooltip.js";
import { instantOf, localText, zonedText } from "./time.js";

const OF_ALL = ["range", "from", "to", "timezone", "refresh"];
const MOST_POINTS = 400; // a card is narrow
const MOST_QUESTIONS = 20;
const board = JSON.parse(byId("board").textContent);
const fields = byId("controls").elements;
const noteDialog = byId("note") ? new NoteDialog(() => load()) : null;
let state, waiting = [];

// The charts are asked for their buckets alone: units are known, statistics are not shown.
const ask = { aggregates: aggregatesTogether, statistics: async (series) => ({ unit: board.units[series] ?? "" }), mostPoints: MOST_POINTS };

// As the API's `aggregates`; all that is asked in one go is sent together, as many questions as fit into a request.
function aggregatesTogether(series, question, signal) {
  const [namespace, name] = series.split("/");
  return new Promise((done, fail) => {
    if (!waiting.length) queueMicrotask(() => send(waiting.splice(0)));
    waiting.push({ question: { namespace, name, ...question }, signal, done, fail });
  });
}

function send(asking) {
  for (let first = 0; first < asking.length; first += MOST_QUESTIONS) {
    const some = asking.slice(first, first + MOST_QUESTIONS);
    call("POST", document.body.dataset.query, { questions: some.map(({ question }) => question) }, some[0].signal).then(
      ({ answers }) => answers.forEach(({ status, body }, index) => (status === 200 ? some[index].done(body) : some[index].fail(refusal(status, body)))),
      (error) => some.forEach(({ fail }) => fail(error)),
    );
  }
}

class Card {
  constructor(place) {
    this.place = place;
    this.one = (selector) => place.querySelector(selector);
    const { title, state: query } = board.charts.find(({ id }) => id === place.dataset.chart);
    this.own = read(query);
    this.title = title || this.own.series.join(", ");
    this.tooltip = new Tooltip(this.one(".stage"));
    this.marks = noteDialog && new Marks(this.one(".notes"), (some) => noteDialog.open(some, state.timezone));
    [this.notes, this.firings] = [[], []];
    this.chart = new Chart(this.one(".chart"), (from, to) => change(zoomed(state, from, to)), (row, plot) => this.hover(row, plot), {
      behind: (plot) => { drawFirings(plot, this.firings, this.own.hidden); drawNotes(plot, this.notes); },
      onDraw: (plot) => this.marks?.show(plot, this.notes, state.timezone) });
    const link = document.body.dataset.chart ? element("a", {}, this.title) : this.title;
    this.one(".title").replaceChildren(link);
    this.one(".chart").setAttribute("aria-label", `Chart: ${this.title}`);
    for (const button of place.querySelectorAll(".head button")) {
      button.setAttribute("aria-label", `Move “${this.title}” ${button.classList.contains("earlier") ? "up" : "down"}`);
    }
  }

  // Its own state, in the range of all.
  get state() {
    return { ...this.own, ...Object.fromEntries(OF_ALL.map((key) => [key, state[key]])) };
  }

  async load(signal) {
    const mine = this.state;
    const link = this.one(".title a");
    if (link) link.href = document.body.dataset.chart + write(mine);
    const taken = await take(mine, 0, signal, ask);
    if (signal.aborted) return;
    const refused = taken.failures.map(({ series, error }) => (error instanceof APIError ? `${series}: ${error.message}` : "This can’t be drawn."));
    const isAll = taken.failures.length === mine.series.length;
    const isOld = isAll && this.picture?.texts.length > 0 && OF_ALL.every((key) => this.shown[key] === mine[key]);
    this.say([...new Set(refused), ...(isOld ? ["What is shown is older."] : [])].join(" "));
    for (const { error } of taken.failures) if (!(error instanceof APIError)) reportError(error);
    if (isOld) return;
    this.picture = isAll ? emptied(mine, taken.granularity) : taken;
    this.shown = mine;
    this.chart.show(this.picture, mine);
    this.values(null);
  }

  say(text) {
    this.one(".refused").textContent = text;
    this.one(".refused").hidden = !text;
  }

  showWhatHappened(notes, firings) {
    const namespaces = new Set(this.own.series.map((each) => each.split("/")[0]));
    this.notes = notes.filter((note) => namespaces.has(note.namespace));
    this.firings = firings.filter(({ namespace, name }) => this.own.series.includes(`${namespace}/${name}`));
    if (!this.picture) return;
    this.one(".fired").textContent = shadedText(this.firings);
    this.chart.plot?.redraw(false);
  }

  lines() {
    return visible(this.picture, this.shown);
  }

  // Each line with a value: of a row, or its latest.
  values(row) {
    this.one(".values").replaceChildren(...this.lines().map((column) => element("li", {}, element("span", { class: `mark s${column.series + 1}` }),
      element("span", { class: "label" }, column.label), element("b", {}, short(column.values[row ?? latestRow(column, this.picture.cut)], column.unit, 5)))));
  }

  hover(row, plot) {
    const at = this.picture && row !== null && row < this.picture.texts.length ? row : null;
    if (at === null || !(plot?.cursor.left >= 0)) return this.tooltip.hide();
    this.tooltip.show(plot, zonedText(this.picture.texts[at], state.timezone).replace("T", " "), this.lines(), at);
  }
}

const load = repeated(byId("cards"), () => state?.refresh * 1000, async (signal) => {
  const series = [...new Set(cards.flatMap((card) => card.own.series))];
  const loaded = cards.map((card) => card.load(signal).catch((error) => {
    if (signal.aborted) return;
    card.say("This can’t be drawn.");
    reportError(error);
  }));
  const [notes, firings] = await Promise.all([noteDialog ? notesOf(series, windowOf(state), signal) : [],
    firingsOf(series, windowOf(state), signal), ...loaded]);
  if (signal.aborted) return;
  for (const card of cards) card.showWhatHappened(notes, firings);
  document.body.dataset.loaded = Number(document.body.dataset.loaded ?? 0) + 1;
}, reportError);

function show() {
  for (const key of ["range", "timezone", "refresh"]) fields[key].value = state[key];
  for (const part of document.querySelectorAll(".custom")) part.hidden = state.range !== "custom";
  [fields.from.value, fields.to.value] = windowOf(state).map((end) => localText(end, state.timezone));
  const [from, to] = windowOf(state).map((end) => localText(end, state.timezone).replace("T", " "));
  byId("summary").textContent = `${from} to ${to}, ${state.timezone}`;
  load();
}

function change(to) {
  state = to;
  history.pushState(null, "", `?${written()}`);
  show();
}

// What the address and the board keep.
function written() {
  const ends = state.range === "custom" ? [["from", new Date(state.from).toISOString()], ["to", new Date(state.to).toISOString()]] : [["range", state.range]];
  return new URLSearchParams([...ends, ["timezone", state.timezone], ["refresh", state.refresh]]);
}

function stateOf(query) {
  const given = read(new URLSearchParams(query).has("timezone") ? query : board.view);
  return given.range ? given : { ...given, range: "24h" };
}

// Cards are moved by their buttons and dragged by their heads; the order is kept at once.
function arrange() {
  const list = byId("cards");
  const keep = async () => {
    const order = [...list.children].map((each) => ["chart", each.dataset.chart]);
    await post([["action", "order"], ...order]);
  };
  const swap = (card, by) => {
    const other = by < 0 ? card.previousElementSibling : card.nextElementSibling;
    if (!other) return;
    if (by < 0) other.before(card);
    else other.after(card);
    keep();
  };
  let dragged = null;
  for (const card of list.children) {
    const head = card.querySelector(".head");
    for (const [name, by] of [["earlier", -1], ["later", 1]]) {
      const button = head.querySelector(`.${name}`);
      button.addEventListener("click", () => { swap(card, by); button.focus(); });
    }
    head.addEventListener("dragstart", (event) => { dragged = card; event.dataTransfer.effectAllowed = "move"; });
    card.addEventListener("dragover", (event) => {
      if (!dragged || dragged === card) return;
      event.preventDefault();
      const isBefore = dragged.compareDocumentPosition(card) & Node.DOCUMENT_POSITION_PRECEDING;
      if (isBefore) card.before(dragged);
      else card.after(dragged);
    });
    head.addEventListener("dragend", () => { dragged = null; keep(); });
  }
  const button = byId("arrange");
  const set = (isOn) => {
    button.setAttribute("aria-pressed", isOn);
    byId("settings").hidden = !isOn;
    for (const part of document.querySelectorAll(".arranging")) part.hidden = !isOn;
    for (const head of document.querySelectorAll(".board-card .head")) head.draggable = isOn;
  };
  button.addEventListener("click", () => set(button.getAttribute("aria-pressed") !== "true"));
  set(button.getAttribute("aria-pressed") === "true");
  byId("keep").addEventListener("click", async () => {
    if (await post([["action", "view"], ["view", written()]])) byId("kept").textContent = "Kept: the board opens like this.";
  });
}

async function post(pairs) {
  try {
    await call("POST", location.pathname, new URLSearchParams(pairs));
    return true;
  } catch (error) {
    byId("kept").textContent = error.message;
    return false;
  }
}

function wire() {
  byId("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    const [from, to] = [fields.from, fields.to].map(({ value }) => instantOf(value, state.timezone));
    if (from < to) change({ ...state, from, to });
  });
  byId("controls").addEventListener("change", ({ target: { name, value } }) => {
    const [from, to] = windowOf(state);
    if (["range", "timezone", "refresh"].includes(name)) change({ ...state, from, to, [name]: value });
  });
  on("earlier", () => change(moved(state, -1 / 2)));
  on("later", () => change(moved(state, 1 / 2)));
  on("zoom-in", () => change(zoomed(state, ...windowOf(state), 1 / 2)));
  on("zoom-out", () => change(zoomed(state, ...windowOf(state), 2)));
  addEventListener("popstate", () => { state = stateOf(location.search); show(); });
  if (byId("arrange")) arrange();
}

const cards = [...document.querySelectorAll(".board-card")].map((place) => new Card(place));
state = stateOf(location.search);
const zones = new Set(["UTC", ...Intl.supportedValuesOf("timeZone"), state.timezone]);
fields.timezone.append(...[...zones].map((zone) => element("option", {}, zone)));
wire();
show();
