// The API's endpoints, asked as the signed-in user.

const root = document.body.dataset.catalogue;

// A refusal; its status is 0 where there was no answer.
export class APIError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function get(path, signal) {
  const response = await fetch(path, { signal, cache: "no-cache" }).catch(() => {
    throw new APIError(0, "The service can’t be reached.");
  });
  if (response.ok) return response.json();
  const body = await response.json().catch(() => ({ detail: `The service answered ${response.status}.` }));
  const said = Object.entries(body).map(([key, texts]) => `${key}: ${[texts].flat().join(" ")}`).join(" ");
  throw new APIError(response.status, said.replace(/^detail: /, ""));
}

// How many series are listed; others are found by typing part of their name.
export const MOST_LISTED = Number(document.body.dataset.mostListed);

const listed = (path, query = {}) => get(`${path}?${new URLSearchParams({ limit: MOST_LISTED, ...query })}`);

// The first series, or those with a text in their name.
export const catalogue = (search = "") => listed(root, { search });

// The line of one series in the catalogue, if it is there.
export async function lineOf(series) {
  const [namespace, name] = series.split("/");
  const lines = await listed(`${root}/${encodeURIComponent(namespace)}`, { search: series });
  return lines.find((line) => line.name === name);
}

export function aggregates(series, question, signal) {
  const path = series.split("/").map(encodeURIComponent).join("/");
  return get(`${root}/${path}?${new URLSearchParams(question)}`, signal);
}

// Of the events of a series in a window altogether: count, sum, avg, min, max; and the unit of its values.
export function statistics(series, window, signal) {
  const path = series.split("/").map(encodeURIComponent).join("/");
  return get(`${document.body.dataset.overview}/${path}?${new URLSearchParams(window)}`, signal);
}

// When alerts fired, for one series within a window; without a series, for every one.
export function firings(query, signal) {
  return get(`${document.body.dataset.firings}?${new URLSearchParams(query)}`, signal);
}

// A page of the series, with how each is going.
export function overview({ search, order, page, hidden }, signal) {
  return get(`${document.body.dataset.overview}?${new URLSearchParams({ search, order, page, hidden: hidden ? "yes" : "no" })}`, signal);
}
