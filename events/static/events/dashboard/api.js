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

export const catalogue = () => get(root);

export function aggregates(series, question, signal) {
  const path = series.split("/").map(encodeURIComponent).join("/");
  return get(`${root}/${path}?${new URLSearchParams(question)}`, signal);
}
