// The slider through the past snapshots.

import { line } from "./chart.js";
import { byId, text } from "./dom.js";
import { date, dateAndTime, time } from "./format.js";

export class Timeline {
  #slider = byId("slider");
  #live = byId("live");
  #earlier = byId("earlier");
  #later = byId("later");
  #strip = byId("strip");
  #snapshots = [];
  #choose;

  /** Calls `choose` with the end of the chosen window, or with `undefined` for the newest. */
  constructor(choose) {
    this.#choose = choose;
    this.#slider.addEventListener("input", () => this.#go(this.#slider.valueAsNumber));
    this.#earlier.addEventListener("click", () => this.#go(this.#slider.valueAsNumber - 1));
    this.#later.addEventListener("click", () => this.#go(this.#slider.valueAsNumber + 1));
    this.#live.addEventListener("click", () => this.#go(this.#last));
  }

  get #last() {
    return this.#snapshots.length - 1;
  }

  /** Shows `snapshots`, with the one that ended at `chosen`, or else the newest, as current. */
  show(snapshots, chosen) {
    this.#snapshots = snapshots;
    if (snapshots.length === 0) return;
    const found = snapshots.findIndex((snapshot) => snapshot.end === chosen);
    this.#slider.max = this.#last;
    this.#slider.disabled = this.#last === 0;
    this.#place(found < 0 ? this.#last : found);
    const [first, last] = [snapshots[0], snapshots[this.#last]].map((snapshot) => Date.parse(snapshot.end));
    const tell = date(first) === date(last) ? time : dateAndTime;
    text(byId("first"), tell(first));
    text(byId("last"), tell(last));
    const clicks = snapshots.map((snapshot) => snapshot.clicks);
    this.#strip.replaceChildren(...(clicks.length > 1 ? line(clicks, 1000, 28) : []));
  }

  #go(at) {
    const place = Math.min(Math.max(at, 0), this.#last);
    if (place < 0) return;
    this.#place(place);
    this.#choose(place === this.#last ? undefined : this.#snapshots[place].end);
  }

  #place(at) {
    const { end } = this.#snapshots[at];
    const live = at === this.#last;
    this.#slider.value = at;
    const ms = Date.parse(end);
    this.#slider.setAttribute("aria-valuetext", `the hour to ${time(ms)} UTC, ${date(ms)}${live ? ", the newest" : ""}`);
    this.#live.setAttribute("aria-pressed", live);
    // A disabled button would lose the focus.
    this.#earlier.setAttribute("aria-disabled", at === 0);
    this.#later.setAttribute("aria-disabled", live);
  }
}
