// The API's endpoints, asked as the signed-in user.

const root = document.body.dataset.catalogue;

// A refusal; its status is 0 where there was no answer.
export class APIError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export const get = async (path, signal) => (await answered(path, reading(signal))).json();

const reading = (signal) => ({ signal, cache: "no-cache" });

async function answered(path, options) {
  const response = await fetch(path, options).catch(() => {
    throw new APIError(0, "The service can’t be reached.");
  });
  if (response.redirected) throw new APIError(401, "You are signed out."); // to the log-in page
  if (response.ok) return response;
  throw refusal(response.status, await response.json().catch(() => ({ detail: `The service answered ${response.status}.` })));
}

// The words of a refusal, with the fields that they are about; in a list the index leads to what is wrong.
export function refusal(status, body) {
  const words = (texts) => (typeof texts === "object" && !Array.isArray(texts) ? Object.values(texts).map(words).join(" ") : [texts].flat().join(" "));
  const said = Object.entries(body).map(([key, texts]) => `${key}: ${words(texts)}`).join(" ");
  return new APIError(status, said.replace(/^detail: /, ""));
}

// What changes something is sent with the token of the page, if it has one.
export async function call(method, path, body, signal) {
  const token = document.querySelector("[name=csrfmiddlewaretoken]")?.value;
  const isForm = body instanceof URLSearchParams;
  const headers = { ...(body && !isForm ? { "Content-Type": "application/json" } : {}), ...(token ? { "X-CSRFToken": token } : {}) };
  const response = await answered(path, { method, signal, headers, ...(body ? { body: isForm ? body : JSON.stringify(body) } : {}) });
  return response.status === 204 ? null : response.json();
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

// A series as the end of a path.
export const pathOf = (series) => series.split("/").map(encodeURIComponent).join("/");

export const aggregates = (series, question, signal) => get(`${root}/${pathOf(series)}?${new URLSearchParams(question)}`, signal);

// Of the events of a series in a window altogether: count, sum, avg, min, max; and the unit of its values.
export const statistics = (series, window, signal) =>
  get(`${document.body.dataset.overview}/${pathOf(series)}?${new URLSearchParams(window)}`, signal);

const [MOST_A_REQUEST, MOST_CHARACTERS, MOST_PAGES] = [100, 7000, 10]; // the service takes 8,192 in all

// What a list says of some series or namespaces within a window, by as few requests as take all of them; of one that
// has pages, each of these.
export async function listOf(path, name, values, window, signal) {
  const pieces = [[]];
  for (const value of values) {
    const pair = new URLSearchParams([[name, value]]).toString();
    if ([...pieces.at(-1), pair].join("&").length > MOST_CHARACTERS || pieces.at(-1).length === MOST_A_REQUEST) pieces.push([]);
    pieces.at(-1).push(pair);
  }
  const queries = pieces.map((piece) => [new URLSearchParams(window), ...piece].join("&"));
  return (await Promise.all(queries.map((query) => pagesOf(path, query, signal)))).flat();
}

async function pagesOf(path, query, signal) {
  const pages = [];
  for (let next = query; next && pages.length < MOST_PAGES; ) {
    const response = await answered(`${path}?${next}`, reading(signal));
    pages.push(await response.json());
    next = response.headers.get("Link")?.match(/\?([^>]*)>; rel="next"/)?.[1];
  }
  return pages;
}

// A page of the series, with how each is going.
export const overview = ({ search, order, page, hidden }, signal) =>
  get(`${document.body.dataset.overview}?${new URLSearchParams({ search, order, page, hidden })}`, signal);
