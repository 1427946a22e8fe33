// Where the data come from: the read API, and the server's clock.

import { MINUTE } from "./format.js";

/** Minutes from one window's end to the next, and how long after its end a window is ranked. */
export const STEP = 5 * MINUTE;
export const DAY = 24 * 60 * MINUTE;
const SETTLE = 70_000;
const MINUTES = 60;
/** How many products' minutes are asked for at a time. */
const PARALLEL = 4;

/** Asks for JSON. `fresh` has the browser ask the server whether its copy still holds, whatever its age. */
export async function get(path, { fresh = false, signal } = {}) {
  const response = await fetch(path, { cache: fresh ? "no-cache" : "default", signal });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error?.message ?? `the server answered ${response.status}`);
  if (fresh) clock.heard(response.headers);
  return body;
}

/** Has something done, and returns what came of it. */
export async function post(path) {
  const response = await fetch(path, { method: "POST" });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error?.message ?? `the server answered ${response.status}`);
  return body;
}

export const newest = () => get("/hot-products?limit=100", { fresh: true });
export const past = (end, signal) => get(`/hot-products?limit=100&at=${encodeURIComponent(end)}`, { signal });

/** The windows that have a snapshot, oldest first, of the day up to the end of a window, or up to now. */
export async function history(to) {
  const range = new URLSearchParams({ limit: 1 });
  if (to !== undefined) {
    range.set("from", new Date(Date.parse(to) - DAY + STEP).toISOString());
    range.set("to", to);
  }
  const snapshots = [];
  for (let page = { next: range.get("from") }; page.next !== undefined; ) {
    if (page.next !== null) range.set("from", page.next);
    page = await get(`/hot-products/history?${range}`, { fresh: true });
    snapshots.push(...page.snapshots);
  }
  return snapshots.map((snapshot) => ({ end: snapshot.window_end, clicks: snapshot.total_clicks }));
}

/** Whether there is any snapshot at all. To ask for the newest would be an error where there is none. */
export async function any() {
  const page = await get("/hot-products/history?limit=1&from=1970-01-01T00:00:00Z", { fresh: true });
  return page.snapshots.length > 0;
}

/** The server's time, which in the demo runs faster than ours. */
export const clock = {
  speed: 1,
  paused: false,
  known: Date.now(),
  at: performance.now(),

  now() {
    const passed = performance.now() - this.at;
    return this.known + (this.paused ? 0 : passed * this.speed);
  },

  /** Follows the answers' dates, where this machine's clock is wrong. They are whole seconds. */
  heard(headers) {
    const date = Date.parse(headers.get("date")) + 1000 * Number(headers.get("age") ?? 0);
    if (this.speed === 1 && Math.abs(date - this.now()) > 2000) this.set(date, 1, false);
  },

  set(now, speed, paused) {
    Object.assign(this, { known: now, at: performance.now(), speed, paused });
  },

  /** How long until `time`, in milliseconds of ours. */
  until(time) {
    return (time - this.now()) / this.speed;
  },
};

/** When the snapshot after that of the window that ended at `end` is due. */
export const nextDue = (end) => Date.parse(end) + STEP + SETTLE;

/**
 * The clicks of products in each minute of a window. Of a product whose clicks in the window before are known, only the
 * end is asked for; where the whole does not add up to the clicks of the snapshot, for there were late ones, all of it.
 */
export class Minutes {
  #known = new Map();
  #waiting = [];
  #running = 0;

  /** The clicks of `product` in the window that ended at `end`: sixty numbers, or `undefined` where they are not known. */
  known(product, end) {
    const found = this.#known.get(product);
    return found?.end === end ? found.clicks : undefined;
  }

  /** Calls `done` with the clicks when they are there, unless `wanted` says no when it is their turn. */
  ask(product, end, total, wanted, done) {
    // No URL can name these two: they are steps of a path.
    if (product === "." || product === "..") return;
    this.#waiting.push({ product, end, total, wanted, done });
    this.#next();
  }

  #next() {
    while (this.#running < PARALLEL && this.#waiting.length > 0) {
      const job = this.#waiting.shift();
      if (!job.wanted()) continue;
      this.#running += 1;
      this.#fetch(job)
        // The snapshot's own request says what is wrong, and the next one asks again.
        .catch(() => {})
        .finally(() => {
          this.#running -= 1;
          this.#next();
        });
    }
  }

  async #fetch({ product, end, total, wanted, done }) {
    const before = this.#known.get(product);
    const steps = before ? (Date.parse(end) - Date.parse(before.end)) / STEP : Infinity;
    let clicks;
    if (steps >= 1 && steps <= 4) {
      const tail = await this.#read(product, end, (steps + 1) * 5);
      clicks = [...before.clicks.slice(steps * 5, MINUTES - 5), ...tail];
    }
    if (clicks === undefined || sum(clicks) !== total) clicks = await this.#read(product, end, MINUTES);
    const current = this.#known.get(product);
    // Answers may overtake one another; the newest window is the best to go on from.
    if (wanted() || current === undefined) this.#known.set(product, { end, clicks });
    if (this.#known.size > 1000) this.#known.delete(this.#known.keys().next().value);
    if (wanted()) done(clicks);
  }

  async #read(product, end, minutes) {
    const path = `/products/${encodeURIComponent(product)}/clicks?minutes=${minutes}&to=${encodeURIComponent(end)}`;
    return (await get(path)).minutes.map((minute) => minute.clicks);
  }
}

export const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
