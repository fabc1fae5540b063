// Annotations: lines and bands of the chart, a mark above for each, and the dialog in which one is read and edited.

import { call, listOf } from "./api.js";
import { byId, cssColor, element } from "./dom.js";
import { instantOf, localText } from "./time.js";

const MARK_PIXELS = 22;
const DIGITS = 16; // of a time without its seconds
const base = document.body.dataset.annotations;
const may = new Set((document.body.dataset.mayAnnotate ?? "").split(" "));

const startOf = (note) => Date.parse(note.timestamp) / 1000;
const endOf = (note) => Date.parse(note.end ?? note.timestamp) / 1000;
const timeOf = (note, zone) => {
  const [start, end] = [note.timestamp, note.end].map((text) => (text ? localText(Date.parse(text), zone).slice(0, DIGITS).replace("T", " ") : ""));
  return end ? `${start} to ${end}` : start;
};

// Of the namespaces of some series within a window; none where they can't be had, as charts are shown all the same.
export async function notesOf(series, [from, to], signal) {
  const namespaces = [...new Set(series.map((each) => each.split("/")[0]))];
  if (!base || !namespaces.length) return [];
  const window = { tsMin: new Date(from).toISOString(), tsMax: new Date(to).toISOString() };
  return (await listOf(base, "namespace", namespaces, window, signal).catch(() => [])).flat();
}

// Behind the lines of the chart, so that these stay readable.
export function drawNotes(plot, notes) {
  const { ctx, bbox: { left, top, width, height } } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  ctx.fillStyle = ctx.strokeStyle = cssColor("note");
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
  for (const note of notes) {
    const [start, end] = [startOf(note), endOf(note)].map((each) => plot.valToPos(each, "x", true));
    if (end > start) {
      ctx.globalAlpha = 0.15;
      ctx.fillRect(start, top, end - start, height);
    }
    ctx.globalAlpha = 0.9;
    for (const x of new Set([start, end])) {
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
      ctx.stroke();
    }
  }
  ctx.restore();
}

// The marks stand beside the chart in the page, which as an image has no parts. Those that would overlap are one.
export class Marks {
  constructor(place, onOpen) {
    Object.assign(this, { place, onOpen });
  }

  show(plot, notes, zone) {
    const focused = this.place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const [over, place] = [plot.over.getBoundingClientRect(), this.place.parentElement.getBoundingClientRect()];
    const groups = [];
    for (const note of [...notes].sort((a, b) => startOf(a) - startOf(b))) {
      const x = Math.min(Math.max(plot.valToPos(startOf(note), "x"), 0), over.width);
      const last = groups.at(-1);
      if (last && x - last.x < MARK_PIXELS) last.notes.push(note);
      else groups.push({ x, notes: [note] });
    }
    this.place.replaceChildren(...groups.map(({ x, notes: together }) => {
      const words = together.map((note) => `${note.title} (${timeOf(note, zone)})`).join("; ");
      const mark = element("button", { type: "button", class: "note-mark", "data-key": together[0].id, title: words, "aria-label": words,
        click: () => this.onOpen(together) }, together.length > 1 ? String(together.length) : "");
      mark.style.left = `${over.left - place.left + x - MARK_PIXELS / 2}px`;
      mark.style.top = `${over.top - place.top}px`;
      return mark;
    }));
    if (focused) [...this.place.children].find((each) => each.dataset.key === focused)?.focus();
  }

  hide() {
    this.place.replaceChildren();
  }
}

// One dialog for a page. What is saved or deleted is followed by `onChange`.
export class NoteDialog {
  constructor(onChange) {
    Object.assign(this, { onChange, dialog: byId("note"), form: byId("note-form") });
    this.fields = this.form.elements;
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.save(); });
    byId("note-delete").addEventListener("click", () => this.remove());
    byId("note-close").addEventListener("click", () => this.dialog.close());
  }

  // One is shown at once, of several one is to be chosen.
  open(notes, zone) {
    this.zone = zone;
    const isOne = notes.length === 1;
    byId("note-choices").hidden = isOne;
    this.form.hidden = !isOne;
    byId("note-heading").textContent = isOne ? "Annotation" : `${notes.length} annotations`;
    byId("note-choices").replaceChildren(...notes.map((note) => element("li", {}, element("button", { type: "button",
      click: () => this.open([note], zone) }, `${timeOf(note, zone)} ${note.title}`))));
    if (isOne) this.fill(notes[0], [notes[0].namespace], may.has("change"));
    if (!this.dialog.open) this.dialog.showModal();
  }

  add(namespaces, instant, zone) {
    this.zone = zone;
    byId("note-choices").hidden = true;
    this.form.hidden = false;
    byId("note-heading").textContent = "New annotation";
    this.fill({ namespace: namespaces[0], timestamp: new Date(instant).toISOString(), end: null, title: "", text: "", tags: [] }, namespaces, true);
    this.dialog.showModal();
    this.fields.title.focus();
  }

  fill(note, namespaces, mayChange) {
    this.note = note;
    this.say("");
    const { fields } = this;
    fields.namespace.replaceChildren(...namespaces.map((each) => element("option", {}, each)));
    fields.title.value = note.title;
    fields.timestamp.value = localText(Date.parse(note.timestamp), this.zone);
    fields.end.value = note.end ? localText(Date.parse(note.end), this.zone) : "";
    fields.text.value = note.text;
    fields.tags.value = note.tags.join("\n");
    byId("note-zone").textContent = `Times are of ${this.zone}.`;
    for (const field of fields) if (field.name) field.disabled = !mayChange;
    byId("note-save").hidden = !mayChange;
    byId("note-delete").hidden = !note.id || !may.has("delete");
    this.before = this.given();
  }

  given() {
    const { namespace, title, timestamp, end, text, tags } = this.fields;
    return { namespace: namespace.value, title: title.value, timestamp: timestamp.value, end: end.value, text: text.value, tags: tags.value };
  }

  // Only what was changed is sent: the fields hold whole seconds, and a timestamp may have more digits.
  async save() {
    const instant = (value) => (value ? new Date(instantOf(value, this.zone)).toISOString() : null);
    const read = { timestamp: instant, end: instant, tags: (value) => value.split("\n").map((each) => each.trim()).filter(Boolean) };
    const now = this.given();
    const changed = Object.keys(now).filter((key) => !this.note.id || now[key] !== this.before[key]);
    const body = Object.fromEntries(changed.map((key) => [key, (read[key] ?? ((value) => value))(now[key])]));
    await this.send(this.note.id ? "PATCH" : "POST", body);
  }

  async remove() {
    if (confirm(`Delete “${this.note.title}”?`)) await this.send("DELETE");
  }

  async send(method, body) {
    try {
      await call(method, this.note.id ? `${base}/${this.note.id}` : `${base}`, body);
      this.dialog.close();
      this.onChange();
    } catch (error) {
      this.say(error.message);
    }
  }

  say(text) {
    byId("note-error").textContent = text;
    byId("note-error").hidden = !text;
  }
}
