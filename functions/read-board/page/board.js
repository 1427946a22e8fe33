// The board: loads snapshots when they are due, and shows the newest or the chosen one.

import { MinuteChart } from "./chart.js";
import { byId, text } from "./dom.js";
import { completeness, count, date, percent, span, time, timeWithSeconds, visible, window as hour } from "./format.js";
import { Pipeline } from "./pipeline.js";
import { DAY, PATIENCE, QUIET_AFTER, STEP, any, clock, history, minutes, newest, nextDue, past } from "./source.js";
import { ProductTable } from "./table.js";
import { Timeline } from "./timeline.js";

/** The shortest and the longest time between two requests for a snapshot, in real milliseconds. */
const LEAST = 1000;
const LONGEST = 60_000;
/** The time between two requests for a snapshot that is due, in milliseconds of the server's clock. */
const OVERDUE = 10_000;
/** The shortest time between two announcements, in real milliseconds. */
const ANNOUNCE = 60_000;
/** How many past snapshots are cached. */
const KEPT = 300;

const state = {
  /** The windows that have a snapshot, oldest first; `undefined` before the first answer. */
  snapshots: undefined,
  newest: undefined,
  /** The end of the chosen past window; `undefined` for the newest. */
  chosen: undefined,
  shown: undefined,
  /** The current problem, if any. */
  problem: undefined,
};
const known = new Map();
const table = new ProductTable();
const chart = new MinuteChart();
const timeline = new Timeline(choose);
const pipeline = document.body.dataset.pipeline ? new Pipeline(document.body.dataset.pipeline) : undefined;

let looking = new AbortController();
/** Shows the window that ended at `end`, or the newest one and all that follow. */
async function choose(end) {
  looking.abort();
  looking = new AbortController();
  const { signal } = looking;
  state.chosen = end;
  if (end === undefined) {
    if (state.newest) show(state.newest);
    return;
  }
  try {
    const snapshot = known.get(end) ?? (await past(end, signal));
    known.set(end, snapshot);
    if (known.size > KEPT) known.delete(known.keys().next().value);
    if (state.chosen === end) show(snapshot);
  } catch (error) {
    if (!signal.aborted) fail(error);
  }
}

function show(snapshot) {
  state.shown = snapshot;
  document.body.dataset.window = snapshot.window_end;
  const end = Date.parse(snapshot.window_end);
  text(byId("window"), hour(snapshot));
  text(byId("date"), date(end));
  text(byId("total"), count(snapshot.total_clicks));
  text(byId("distinct"), count(snapshot.distinct_products));
  const ten = snapshot.products.slice(0, 10).reduce((clicks, product) => clicks + product.clicks, 0);
  text(byId("top-ten"), snapshot.total_clicks > 0 ? percent(ten / snapshot.total_clicks) : "–");
  text(byId("state"), completeness(snapshot, QUIET_AFTER));
  const all = snapshot.clicks_per_minute ?? [];
  byId("minutes").hidden = all.length === 0;
  if (all.length > 0) chart.show(Date.parse(snapshot.window_start), all);
  table.show(snapshot);
  sparklines(snapshot);
  freshness();
}

/** Loads and draws the sparklines of `snapshot`. Snapshots from before clicks per minute were stored have none. */
async function sparklines(snapshot) {
  const found = await minutes(snapshot.window_end).catch(() => new Map());
  if (state.shown === snapshot) table.showMinutes(snapshot.window_end, found);
}

/** Shows how old the snapshot is, and when the next is due. */
function freshness() {
  const badge = byId("freshness");
  const { shown, problem, chosen } = state;
  const say = (kind, words) => {
    badge.dataset.kind = kind;
    text(badge, words);
  };
  if (problem) return say("problem", problem);
  if (!shown) {
    const empty = state.snapshots?.length === 0;
    return say("waiting", empty ? "No snapshot yet: a new one is made every five minutes" : "Loading");
  }
  const ranked = Date.parse(shown.generated_at);
  if (chosen !== undefined) return say("past", `Past snapshot, ranked at ${timeWithSeconds(ranked)} UTC`);
  const age = clock.now() - ranked;
  const left = nextDue(shown.window_end) - clock.now();
  // In the demo, a minute is shorter than the time between two requests.
  const late = -left > Math.max(PATIENCE, 2 * LEAST * clock.speed);
  if (clock.paused) return say("past", `Paused, ranked ${span(age)} ago`);
  if (late) return say("stale", `Stale: ranked ${span(age)} ago, the next is ${span(-left)} late`);
  return say("live", `Ranked ${span(age)} ago, the next ${left > 0 ? `in ${span(left)}` : "is due"}`);
}

function fail(error) {
  // The message of a TypeError from fetch differs between browsers and does not help users.
  const words = error instanceof TypeError ? "the server can’t be reached" : error.message;
  state.problem = `Not up to date: ${words}. Trying again`;
  freshness();
}

/** Loads what is new and shows it. */
async function update() {
  if (!state.snapshots?.length) {
    state.snapshots = await history();
    if (state.snapshots.length === 0 && !(await any())) return;
  }
  const snapshot = await newest();
  const end = snapshot.window_end;
  // Snapshots are missing if the page was asleep, or if all of them are old.
  const last = state.snapshots.at(-1)?.end;
  if (last === undefined || Date.parse(end) - Date.parse(last) > STEP) state.snapshots = await history(end);
  if (state.snapshots.at(-1)?.end !== end) {
    const kept = (past) => past.end === state.chosen || Date.parse(end) - Date.parse(past.end) < DAY;
    state.snapshots = state.snapshots.filter(kept);
    state.snapshots.push({ end, clicks: snapshot.total_clicks });
  }
  if (state.newest?.window_end === end && state.newest.generated_at === snapshot.generated_at) return;
  state.newest = snapshot;
  timeline.show(state.snapshots, state.chosen);
  if (state.chosen === undefined) {
    show(snapshot);
    announce(snapshot);
  }
}

let announced = -Infinity;
function announce(snapshot) {
  if (performance.now() - announced < ANNOUNCE) return;
  announced = performance.now();
  const leader = snapshot.products[0];
  const first = leader ? `${visible(leader.product_id)} leads with ${count(leader.clicks)} clicks` : "no clicks";
  text(byId("announcer"), `The hour to ${time(Date.parse(snapshot.window_end))} UTC: ${first}.`);
}

/** Loads each snapshot when it is due. After a failure, waits longer each time. */
async function run() {
  await pipeline?.refresh().catch(() => {});
  for (let failures = 0; ; ) {
    let wait;
    try {
      await update();
      state.problem = undefined;
      failures = 0;
      const due = state.newest ? clock.until(nextDue(state.newest.window_end)) : 0;
      wait = due > 0 ? Math.max(LEAST, due) : Math.max(LEAST, OVERDUE / clock.speed);
    } catch (error) {
      failures += 1;
      fail(error);
      wait = Math.min(LONGEST, LEAST * 2 ** failures);
    }
    freshness();
    document.body.classList.add("ready");
    await asleep(wait);
  }
}

/** Resolves after `ms`, but only while the page is visible; at once when it becomes visible or the network is back. */
function asleep(ms) {
  return new Promise((resolve) => {
    const done = () => {
      if (document.hidden) return;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", done);
      removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    document.addEventListener("visibilitychange", done);
    addEventListener("online", done);
  });
}

setInterval(freshness, 1000);
pipeline?.run();
run();
