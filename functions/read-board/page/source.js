// The sources of the page's data: the read API and the server's clock.

import { MINUTE } from "./format.js";

/** The schedule of the snapshots, which the server writes into the page, in milliseconds. */
const seconds = (name) => 1000 * Number(document.body.dataset[name]);
/** From one window's end to the next. */
export const STEP = seconds("step");
/** How long after it is due a snapshot is late. */
export const PATIENCE = seconds("patience");
/** How long before its window's end a topic partition may have counted its last click, until the page says so. */
export const QUIET_AFTER = seconds("quietAfter");
/** From a window's end until its snapshot is due. */
const DELAY = seconds("snapshotDelay");
export const DAY = 24 * 60 * MINUTE;

/** Loads JSON. With `fresh`, the browser validates its cached copy with the server, whatever its age. */
export async function get(path, { fresh = false, signal } = {}) {
  const response = await fetch(path, { cache: fresh ? "no-cache" : "default", signal });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error?.message ?? `the server answered ${response.status}`);
  if (fresh) clock.heard(response.headers);
  return body;
}

/** Posts to `path` and returns the answer. */
export async function post(path) {
  const response = await fetch(path, { method: "POST" });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error?.message ?? `the server answered ${response.status}`);
  return body;
}

export const newest = () => get("/hot-products?limit=100", { fresh: true });
export const past = (end, signal) => get(`/hot-products?limit=100&at=${encodeURIComponent(end)}`, { signal });

/** The clicks per minute of a snapshot's top products, by product. Validated, because a snapshot may be replaced. */
export async function minutes(end) {
  const { products } = await get(`/hot-products/minutes?at=${encodeURIComponent(end)}`, { fresh: true });
  return new Map(products.map((product) => [product.product_id, product.clicks_per_minute]));
}

/** The windows that have a snapshot, oldest first, in the day up to the end of a window or up to now. */
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

/** Whether there is any snapshot. Asking for the newest is an error if there is none, which browsers log. */
export async function any() {
  const page = await get("/hot-products/history?limit=1&from=1970-01-01T00:00:00Z", { fresh: true });
  return page.snapshots.length > 0;
}

/** The server's time, which runs faster in the demo. */
export const clock = {
  speed: 1,
  paused: false,
  known: Date.now(),
  at: performance.now(),

  now() {
    const passed = performance.now() - this.at;
    return this.known + (this.paused ? 0 : passed * this.speed);
  },

  /** Adjusts to the `Date` of an answer, in whole seconds, if this machine's clock is wrong. */
  heard(headers) {
    const date = Date.parse(headers.get("date")) + 1000 * Number(headers.get("age") ?? 0);
    if (this.speed === 1 && Math.abs(date - this.now()) > 2000) this.set(date, 1, false);
  },

  set(now, speed, paused) {
    Object.assign(this, { known: now, at: performance.now(), speed, paused });
  },

  /** How long until the server's clock shows `time`, in real milliseconds. */
  until(time) {
    return (time - this.now()) / this.speed;
  },
};

/** When the snapshot after that of the window that ended at `end` is due. */
export const nextDue = (end) => Date.parse(end) + STEP + DELAY;
