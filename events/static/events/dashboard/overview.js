// The overview: all series, a page at a time, with how each is going; some of them open as one chart.

import { APIError, overview, pathOf } from "./api.js";
import { byId, drawing, element, on, renew } from "./dom.js";
import { firingNow } from "./firings.js";
import { percent, short } from "./numbers.js";
import { repeated } from "./repeated.js";
import { ago } from "./time.js";

const { chart, seriesPage, login } = document.body.dataset;
const [REFRESH_MILLISECONDS, TYPING_MILLISECONDS, MOST_TICKED, MOST_GAP_HOURS] = [30_000, 200, 6, 6];
const DEFAULTS = { search: "", order: "name", page: "1", hidden: "no" };
const ticked = new Set();
let state, drawn, typing, isNothing, firing = new Map();

// The hours of a day as a line, which leads over gaps of some hours; what is still filling is dashed.
function sparkline({ firstTimestamp, values }) {
  const rows = [...values.keys()].filter((index) => values[index] !== null);
  const known = rows.map((index) => values[index] / 2); // half of it, as the difference of two doubles may be none
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const places = rows.map((index, at) => `${((index * 100) / Math.max(1, values.length - 1)).toFixed(1)} ${
    (high > low ? 26 - 24 * ((known[at] - low) / (high - low)) : 14).toFixed(1)}`);
  const isFilling = Date.parse(firstTimestamp) + values.length * 36e5 > Date.now();
  const parts = { whole: "", soFar: "" };
  rows.forEach((index, at) => {
    const isJoined = at > 0 && index - rows[at - 1] <= MOST_GAP_HOURS;
    const isAlone = !isJoined && !(rows[at + 1] - index <= MOST_GAP_HOURS);
    if (isFilling && isJoined && index === values.length - 1) parts.soFar = `M${places[at - 1]}L${places[at]}`;
    else parts.whole += `${isJoined ? "L" : "M"}${places[at]}${isAlone ? "h1" : ""}`;
  });
  return drawing("svg", { class: "spark", viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true" },
    drawing("path", { d: parts.whole }), drawing("path", { class: "so-far", d: parts.soFar }));
}

function row(line) {
  const series = `${line.namespace}/${line.name}`;
  const tick = element("input", { type: "checkbox", "aria-label": `Tick ${series}`, change: ({ target }) => {
    ticked[target.checked ? "add" : "delete"](series);
    showTicked();
  } });
  tick.checked = ticked.has(series);
  const isCounted = line.hours.aggregationType === "count";
  const what = isCounted ? "events an hour" : "hourly averages";
  return element("tr", { "data-series": series, ...(line.isHidden ? { class: "is-hidden" } : {}) },
    element("td", { class: "tick" }, tick),
    element("td", { class: "name" }, element("a", { href: `${chart}?${new URLSearchParams({ series })}` }, series),
      ...(line.isHidden ? [" (hidden)"] : []), ...(line.renamedTo ? [` (now ${line.renamedTo})`] : []),
      ...(firing.has(series) ? [" ", element("span", { class: "quiet", title: firing.get(series).join(", ") }, "firing")] : []),
      element("a", { class: "more", href: seriesPage + pathOf(series), "aria-label": `About ${series}` }, "about")),
    element("td", { class: "number value" }, short(line.lastValue, line.unit, 5)),
    element("td", { class: "number change", title: `${isCounted ? "Events" : "Average"} of the last day against the day before` },
      line.changePercent === null ? "" : percent(line.changePercent / 100)),
    element("td", { class: "day", title: `${what} of the last day` }, sparkline(line.hours)),
    element("td", { class: "number count" }, line.count.toLocaleString("en-GB")),
    element("td", { class: "last" }, element("time", { datetime: line.lastTimestamp, title: line.lastTimestamp }, ago(Date.parse(line.lastTimestamp))),
      ...(line.isQuiet ? [" ", element("span", { class: "quiet", title: "Nothing has come for much longer than usual" }, "quiet")] : [])),
    element("td", { class: "unit" }, line.unit), element("td", { class: "description" }, line.description));
}

// By name they stand in groups, a namespace each, whose heading narrows the list to it.
function rows(lines) {
  const isGrouped = /^-?name$/.test(state.order);
  return lines.flatMap((line, index) => {
    const isNew = isGrouped && line.namespace !== lines[index - 1]?.namespace;
    const narrow = element("button", { type: "button", click: () => change({ search: `${line.namespace}/`, page: 1 }) }, line.namespace);
    return [...(isNew ? [element("tr", { class: "group", "data-group": line.namespace }, element("th", { colspan: 9, scope: "rowgroup" }, narrow))] : []), row(line)];
  });
}

function showTicked() {
  const button = byId("open");
  button.disabled = ticked.size === 0 || ticked.size > MOST_TICKED;
  button.textContent = ticked.size > MOST_TICKED ? `A chart has ${MOST_TICKED} series at most`
    : ticked.size ? `Open ${ticked.size} as a chart` : "Open as a chart";
}

const read = () => ({ ...DEFAULTS, ...Object.fromEntries(new URLSearchParams(location.search)) });

// The address says what is not as at first.
function change(to, isMoved = true) {
  clearTimeout(typing);
  state = { ...state, ...(isMoved ? { search: byId("search").value } : {}), ...to };
  const chosen = Object.keys(DEFAULTS).filter((key) => String(state[key]) !== DEFAULTS[key]);
  if (isMoved) history.pushState(null, "", `?${new URLSearchParams(chosen.map((key) => [key, state[key]]))}`);
  if (byId("search").value !== state.search) byId("search").value = state.search;
  byId("hidden-too").checked = state.hidden === "yes";
  byId("order").value = state.order;
  for (const head of document.querySelectorAll("[data-order]")) {
    const isThis = head.dataset.order.replace("-", "") === state.order.replace("-", "");
    head.ariaSort = isThis ? (state.order.startsWith("-") ? "descending" : "ascending") : null;
  }
  load();
}

function say(text, isBad = false) {
  renew(byId("text"), text);
  byId("text").classList.toggle("bad", isBad);
}

async function show(signal) {
  const [found, alerts] = await Promise.all([overview(state, signal), firingNow(signal)]);
  if (signal.aborted) return;
  firing = alerts;
  const isFirst = found.count === 0 && !state.search;
  isNothing = isFirst && state.hidden === "no" && (await overview({ ...state, hidden: "yes" }, signal)).count === 0;
  byId("first").hidden = !isNothing;
  byId("overview").hidden = isNothing;
  draw(found);
}

function fail(error) {
  byId("overview").hidden = false;
  if (error.status === 401) location.assign(`${login}?${new URLSearchParams({ next: location.pathname + location.search })}`);
  say(error instanceof APIError ? error.message : "This can’t be shown.", true);
  if (!(error instanceof APIError)) reportError(error);
}

// A refresh leaves the focus where it is, and waits for the next one while somebody selects text.
function draw({ count, page, pages, series }) {
  if (drawn === state && !getSelection().isCollapsed && byId("series").contains(getSelection().anchorNode)) return;
  drawn = state;
  const focused = document.activeElement;
  const of = { ...focused?.closest("tbody tr")?.dataset };
  const kind = focused?.matches("input") ? "input" : focused?.className === "more" ? "a.more" : "a, button";
  document.querySelector("#series tbody").replaceChildren(...rows(series));
  const isIt = ({ dataset: { series, group } }) => series === of.series && group === of.group;
  [...document.querySelectorAll("tbody tr")].find(isIt)?.querySelector(kind)?.focus();
  const start = (page - 1) * 50;
  const [from, to, all] = [start + 1, start + series.length, count].map((each) => each.toLocaleString("en-GB"));
  say(count ? `${from} to ${to} of ${all} series` : "No series is called so.");
  byId("page").textContent = `Page ${page} of ${pages}`;
  byId("pages").hidden = pages === 1;
  byId("before").disabled = page <= 1;
  byId("after").disabled = page >= pages;
  state.page = page;
  showTicked();
}

function wire() {
  on("find", (event) => event.preventDefault(), "submit");
  on("search", ({ target }) => {
    clearTimeout(typing);
    typing = setTimeout(() => change({ search: target.value, page: 1 }), TYPING_MILLISECONDS);
  }, "input");
  on("hidden-too", ({ target }) => change({ hidden: target.checked ? "yes" : "no", page: 1 }), "change");
  on("order", ({ target }) => change({ order: target.value, page: 1 }), "change");
  on("before", () => change({ page: state.page - 1 }));
  on("after", () => change({ page: state.page + 1 }));
  on("open", () => location.assign(`${chart}?${new URLSearchParams([...ticked].map((series) => ["series", series]))}`));
  for (const head of document.querySelectorAll("[data-order]")) {
    const { order } = head.dataset; // what a first click asks for
    const other = order.startsWith("-") ? order.slice(1) : `-${order}`;
    head.addEventListener("click", () => change({ order: state.order === order ? other : order, page: 1 }));
  }
  addEventListener("popstate", () => change(read(), false));
}

const load = repeated(byId("list"), () => (isNothing ? 5000 : REFRESH_MILLISECONDS), show, fail);
wire();
change(read(), false);
