// Elements of the page: found by id, made without any text being taken for HTML, and marked while they are loading.

const LOADING_MILLISECONDS = 100;

export const byId = (id) => document.getElementById(id);

export const element = (name, attributes, ...children) => filled(document.createElement(name), attributes, ...children);

export const drawing = (name, attributes, ...children) => filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, ...children);

function filled(made, attributes = {}, ...children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// Marks a place as loading, where that takes a while. What is returned ends it; not the mark, where something else is loading.
export function loadingOf(place) {
  const set = (isLoading) => {
    place.classList.toggle("loading", isLoading);
    place.setAttribute("aria-busy", isLoading);
  };
  const waiting = setTimeout(() => set(true), LOADING_MILLISECONDS);
  return (isLast) => {
    clearTimeout(waiting);
    if (isLast) set(false);
  };
}
