// Elements of the page: found by id, and made without any text being taken for HTML; and its colours.

export const byId = (id) => document.getElementById(id);
export const on = (id, does, event = "click") => byId(id).addEventListener(event, does);

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

// Replaces what a place holds, unless it is the same: a selection in it stays.
export function renew(place, ...children) {
  const other = place.cloneNode();
  other.append(...children);
  if (!other.isEqualNode(place)) place.replaceChildren(...other.childNodes);
}

export const cssColor = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const faint = (color, share) => color + Math.round(share * 2.55).toString(16).padStart(2, "0");
