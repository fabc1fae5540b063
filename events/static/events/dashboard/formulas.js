// Formulas of two series, such as “hit rate = A / B”; a letter is a series by its place.

import { finite } from "./numbers.js";

const LETTERS = "ABCDEF";
const DOES = { "/": (a, b) => (b === 0 ? null : a / b), "-": (a, b) => a - b, "+": (a, b) => a + b, "*": (a, b) => a * b };

export const letterOf = (index) => LETTERS[index];

// {label, first, second, does} of a text, or null where it is no formula of so many series.
export function parsed(text, count) {
  const found = /^(?:(.{1,60}?)\s*=)?\s*([A-F])\s*([-+*/])\s*([A-F])\s*$/i.exec(text.trim());
  if (!found) return null;
  const [, name, first, sign, second] = found;
  const places = [first, second].map((letter) => LETTERS.indexOf(letter.toUpperCase()));
  if (Math.max(...places) >= count) return null;
  const written = `${first.toUpperCase()} ${sign} ${second.toUpperCase()}`;
  return { label: name ? name.trim() : written, written, places, does: (a, b) => (a == null || b == null ? null : finite(DOES[sign](a, b))) };
}

// Those of a state that have a meaning, each with its text.
export const formulasOf = ({ formulas, series }) =>
  formulas.flatMap((text) => [parsed(text, series.length)].filter(Boolean).map((formula) => ({ text, ...formula })));

// The formulas that are left where the series at a place goes; letters past it move up.
export function without(formulas, place, count) {
  return formulas.flatMap((text) => {
    const formula = parsed(text, count);
    if (!formula || formula.places.includes(place)) return [];
    const name = text.includes("=") ? `${formula.label} = ` : "";
    return [name + formula.written.replace(/[A-F]/g, (each) => LETTERS[LETTERS.indexOf(each) - (LETTERS.indexOf(each) > place)])];
  });
}
