// Tracks events of a page in batches, kept in localStorage until the service has them. See docs/javascript_client.md.
const PREFIX = "tracking:";
const MOST_CHARACTERS = 15_000; // of a batch: a browser takes 64 KB of requests that outlive their page, in UTF-8
const KNOWN_MILLISECONDS = 47 * 3_600_000; // the service forgets a key after 48 hours, and would store its batch again
// What the service says for good. Any other answer, as a page of something on the way, is a reason to send again.
const isForGood = (status) => status === 201 || (status >= 400 && ![401, 408, 429, 502, 503, 504].includes(status));

export class Tracker {
  /** getToken: async (refused) => token; refused is the token that is good no longer, if any. onRefused: (event, reason) */
  constructor({ url, getToken, batchEvents = 100, batchSeconds = 5, mostEvents = 1_000, timeoutSeconds = 30,
    onRefused = console.warn }) {
    Object.assign(this, { url: url.replace(/\/+$/, ""), getToken, batchSeconds, mostEvents, timeoutSeconds, onRefused });
    Object.assign(this, { batchEvents: Math.min(batchEvents, mostEvents), dropped: 0, failures: 0, pause: 0 });
    this.batches = []; // {key, events}; the last one takes new events until it is sealed
    this.id = PREFIX + newKey();
    navigator.locks?.request(this.id, () => new Promise(() => {})); // as long as the page lives
    addEventListener("visibilitychange", () => document.visibilityState === "hidden" && this.flush());
    addEventListener("pagehide", () => this.flush());
    this.adopt().catch(() => {}); // localStorage is forbidden
  }

  /** Take an event in; it is sent soon, or at the latest when the page is left. timestamp: a Date, or milliseconds. */
  track(namespace, name, value = 1, timestamp = Date.now()) {
    const event = { namespace, name, timestamp: new Date(timestamp).toJSON(), value };
    const characters = JSON.stringify(event).length + 1; // throws for what JSON can't write, which none may wait behind
    let batch = this.batches.at(-1);
    if (!batch || batch.sealed) this.batches.push((batch = { key: newKey(), events: [], characters: 0 }));
    batch.events.push(event);
    batch.characters += characters;
    batch.sealed = batch.events.length >= this.batchEvents || batch.characters > MOST_CHARACTERS;
    const old = () => this.batches.findIndex((each) => each !== batch && !each.sending); // the oldest to drop
    while (this.waiting > this.mostEvents && old() >= 0) this.dropped += this.batches.splice(old(), 1)[0].events.length;
    this.save();
    if (batch.sealed) this.flush(); else this.wake(this.batchSeconds * 1_000);
  }

  wake(milliseconds) { this.timer ??= setTimeout(() => this.flush(), milliseconds); }

  /** Track one page view, its value the seconds until the page is hidden or left, or the returned function is called. */
  trackPageView(namespace, name = "pageView") {
    const start = performance.now();
    let ends = 0;
    const end = () => ends++ || this.track(namespace, name, Math.round(performance.now() - start) / 1_000);
    addEventListener("pagehide", end, true); // capturing, so before what waits is sent
    addEventListener("visibilitychange", () => document.visibilityState === "hidden" && end(), true);
    return end;
  }

  get waiting() { return this.batches.reduce((sum, batch) => sum + batch.events.length, 0); }

  /** Send what waits, one batch after the other; all at once where the page may end. */
  async flush() {
    clearTimeout(this.timer); this.timer = undefined;
    for (const batch of this.batches) batch.sealed = true;
    this.save(); // before anything can go wrong
    if (document.visibilityState === "hidden") await Promise.all(this.batches.map((batch) => this.send(batch)));
    else if (!this.flushing && performance.now() >= this.pause) {
      const next = () => this.batches.find((batch) => batch.sealed && !batch.sending);
      this.flushing = true;
      try { for (let batch = next(); batch && (await this.send(batch)); batch = next()); } finally { this.flushing = false; }
    }
    if (this.batches.length) this.wake(Math.max(this.pause - performance.now(), this.batchSeconds * 1_000));
  }

  /** Send a batch; returns whether the next one may be sent. */
  async send(batch) {
    if (batch.sending) return true;
    const { sent } = batch; // when it first was, where no answer said what became of it
    batch.sending = true;
    try {
      if (Date.now() - sent > KNOWN_MILLISECONDS) return !!(this.batches = this.batches.filter((each) => each !== batch));
      const answer = await this.post(batch, this.token ?? (await this.ask()));
      if (!isForGood(answer.status)) throw answer;
      this.failures = 0;
      await this.settle(batch, answer);
      return true;
    } catch (error) { // an answer, no connection, no token, or the browser takes no more such requests
      if (error?.name !== "TimeoutError") batch.sent = sent; // else it may be stored
      const random = Math.random() * Math.min(60, 0.5 * 2 ** this.failures++);
      this.pause = performance.now() + ((Number(error?.headers?.get?.("Retry-After")) || 0) + random) * 1_000;
      return false;
    } finally {
      batch.sending = false;
      this.save();
    }
  }

  ask(refused) {
    const late = () => new Promise((_, reject) => setTimeout(reject, this.timeoutSeconds * 1_000));
    const asked = async () => (this.token = await Promise.race([this.getToken(refused), late()]));
    return (this.asking ??= asked().finally(() => (this.asking = undefined)));
  }

  async post(batch, token, again = true) {
    const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/x-ndjson", "Idempotency-Key": batch.key };
    const body = batch.events.map((event) => JSON.stringify(event)).join("\n");
    // navigator.sendBeacon outlives the page too, but can't carry a token
    const options = { method: "POST", keepalive: true, credentials: "omit", redirect: "error", headers, body };
    batch.sent ??= Date.now(); this.save();
    const answer = await fetch(`${this.url}/api/track/`, { ...options, signal: AbortSignal.timeout?.(this.timeoutSeconds * 1_000) });
    if (answer.status !== 401) return answer;
    if (this.token === token) this.token = undefined;
    return again ? this.post(batch, this.token ?? (await this.ask(token)), false) : answer;
  }

  async settle(batch, answer) {
    if (!this.batches.includes(batch)) return; // dropped meanwhile
    const middle = answer.status === 413 ? batch.events.length >> 1 : 0;
    let kept = middle ? [batch.events.slice(0, middle), batch.events.slice(middle)] : [];
    if (answer.status !== 201 && !kept.length) {
      const body = await answer.json().catch(() => ({}));
      const isNamed = [400, 403].includes(answer.status) && Object.keys(body).every((index) => index in batch.events);
      const reasons = isNamed && Object.keys(body).length ? body : Object.fromEntries(batch.events.map((_, index) => [index, body]));
      for (const [index, reason] of Object.entries(reasons)) queueMicrotask(() => this.onRefused(batch.events[index], reason));
      kept = [batch.events.filter((_, index) => !(index in reasons))].filter((events) => events.length);
    }
    this.batches.splice(this.batches.indexOf(batch), 1, ...kept.map((events) => ({ key: newKey(), events, sealed: true })));
  }

  save() {
    try {
      if (!this.batches.length) localStorage.removeItem(this.id);
      else localStorage.setItem(this.id, JSON.stringify({ at: Date.now(), url: this.url, batches: this.batches }));
    } catch {} // full or forbidden: what waits is in memory alone
  }

  /** Take over what pages have left that are gone; it keeps its keys, so nothing is stored twice. */
  async adopt() {
    for (const id of Object.keys(localStorage).filter((key) => key.startsWith(PREFIX) && key !== this.id)) {
      try {
        const left = JSON.parse(localStorage.getItem(id));
        const take = () => {
          this.batches.unshift(...left.batches.map(({ key, events, sent }) => ({ key, events, sent, sealed: true })));
          this.save();
          localStorage.removeItem(id);
        };
        const isThere = (lock) => lock && localStorage.getItem(id) && take();
        if (left?.url !== this.url) continue;
        if (navigator.locks) await navigator.locks.request(id, { ifAvailable: true }, isThere);
        else if (Date.now() - left.at > 300_000) take(); // a page by HTTP, which has no locks
      } catch {} // not of this script
    }
    if (this.batches.some((batch) => batch.sealed)) this.flush();
  }
}

// crypto.randomUUID is there for pages by HTTPS alone
const newKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
