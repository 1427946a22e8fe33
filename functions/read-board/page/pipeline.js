// The pipeline's status and its controls. Only shown if the server has a pipeline, as in the demo.

import { byId, element, text } from "./dom.js";
import { count, decimal, plural, time } from "./format.js";
import { clock, get, post } from "./source.js";

const EVERY = 1000;

const FIGURES = ["records", "counted", "ignored", "stale", "rejected", "already_counted"];

export class Pipeline {
  #path;
  #said = byId("said");
  #pause = byId("pause");
  #paused = false;

  constructor(path) {
    this.#path = path;
    byId("pipeline").hidden = false;
    document.body.classList.add("with-pipeline");
    byId("redeliver").addEventListener("click", () =>
      this.#do("redeliver", (done) => `Delivered ${plural(done.records, "record")} again: ${outcome(done)}.`),
    );
    byId("garbage").addEventListener("click", () =>
      this.#do("garbage", (done) => `Sent ${plural(done.records, "record")} of garbage: ${outcome(done)}.`),
    );
    this.#pause.addEventListener("click", () => {
      if (this.#paused) this.#do("resume", () => "The demo is running again.");
      else this.#do("pause", () => "The demo is paused.");
    });
  }

  /** Loads the status regularly. */
  async run() {
    for (;;) {
      if (!document.hidden) await this.refresh().catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, EVERY));
    }
  }

  /** Loads the status once. */
  async refresh() {
    const status = await get(this.#path);
    clock.set(Date.parse(status.now), status.speed, status.paused);
    this.#show(status);
  }

  async #do(action, tell) {
    try {
      const done = await post(new URL(action, new URL(this.#path, location.href)));
      await this.refresh();
      this.#said.textContent = tell(done);
    } catch (error) {
      this.#said.textContent = `This failed: ${error.message}.`;
    }
  }

  #show(status) {
    for (const name of FIGURES) text(byId(name), count(status.totals[name]));
    text(byId("write-units"), decimal(status.write_units_per_1000_clicks));
    text(byId("since"), `since ${time(Date.parse(status.since))} UTC`);
    text(byId("speed"), `Demo: time runs ${plural(status.speed, "time")} as fast as real time`);
    byId("speed").hidden = false;
    this.#paused = status.paused;
    text(this.#pause, status.paused ? "Resume" : "Pause");
    rows("sources", status.sources, ({ source, offset, lag }) => [source, count(offset), count(lag)]);
    rows("reasons", Object.entries(status.rejected_by_reason), ([reason, records]) => [
      reason.replaceAll("_", " "),
      count(records),
    ]);
    byId("no-reasons").hidden = status.totals.rejected > 0;
  }
}

/** What happened to the records of a delivery. */
function outcome(done) {
  const parts = [
    [done.already_counted, "skipped as already counted"],
    [done.ignored, "ignored"],
    [done.rejected, "rejected"],
    [done.stale, "stale"],
  ];
  const some = parts.filter(([records]) => records > 0).map(([records, what]) => `${count(records)} ${what}`);
  return [`${count(done.counted)} counted`, ...some].join(", ");
}

/** Fills the body of a table. The first cell of each row is its header. */
function rows(id, entries, cells) {
  const body = byId(id);
  while (body.rows.length > entries.length) body.rows[body.rows.length - 1].remove();
  entries.forEach((entry, at) => {
    const texts = cells(entry);
    const fresh = () =>
      element("tr", {}, ...texts.map((_, cell) => (cell === 0 ? element("th", { scope: "row" }) : element("td"))));
    const row = body.rows[at] ?? body.appendChild(fresh());
    texts.forEach((value, cell) => text(row.cells[cell], value));
  });
}
