// Charts, drawn as SVG.

import { byId, element, svg, text } from "./dom.js";
import { MINUTE, count, plural, time, visible } from "./format.js";

const HEIGHT = 148;
const MARGIN = { top: 10, right: 2, bottom: 22, left: 44 };

/** The points of a line through `values` in a box of `width` by `height`. */
function points(values, width, height, most) {
  const step = width / Math.max(1, values.length - 1);
  return values.map((value, at) => `${(at * step).toFixed(1)},${(height - (value / most) * height).toFixed(1)}`);
}

/** A small line of `values` with the area below it. */
export function line(values, width, height) {
  const most = Math.max(1, ...values);
  const all = points(values, width, height - 2, most).map((point) => point.split(","));
  const path = all.map(([x, y]) => `${x} ${(Number(y) + 1).toFixed(1)}`).join("L");
  return [
    svg("path", { class: "area", d: `M0 ${height}L${path}L${width} ${height}Z` }),
    svg("path", { class: "line", d: `M${path}`, "vector-effect": "non-scaling-stroke" }),
  ];
}

/** The sparkline of a product, with a text for screen readers. */
export function sparkline(product, clicks) {
  const label =
    `${visible(product)}: ${plural(clicks.at(-1), "click")} in the last minute, ` +
    `between ${count(Math.min(...clicks))} and ${count(Math.max(...clicks))} a minute`;
  const drawing = svg("svg", { viewBox: "0 0 120 26", preserveAspectRatio: "none", role: "img", class: "spark" });
  drawing.setAttribute("aria-label", label);
  drawing.append(...line(clicks, 120, 26));
  return drawing;
}

/** A round number at or above `most`, and the ticks up to it. */
function scale(most) {
  const rough = Math.max(1, most) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 2.5, 5, 10].map((times) => times * power).find((size) => size >= rough));
  const top = Math.ceil(Math.max(1, most) / step) * step;
  const ticks = [];
  for (let tick = 0; tick <= top; tick += step) ticks.push(tick);
  return { top, ticks };
}

/** The clicks per minute as bars, with a table of the same numbers. */
export class MinuteChart {
  #drawing = byId("chart");
  #readout = byId("chart-readout");
  #rows = byId("chart-rows");
  #start = 0;
  #clicks = [];

  constructor() {
    new ResizeObserver(() => this.#draw()).observe(this.#drawing.parentElement);
    this.#drawing.addEventListener("pointermove", (event) => this.#point(event));
    this.#drawing.addEventListener("pointerleave", () => this.#describe());
  }

  /** Shows `clicks`, one number for each minute from `start`. */
  show(start, clicks) {
    this.#start = start;
    this.#clicks = clicks;
    this.#draw();
    this.#describe();
    const minute = (at) => this.#start + at * MINUTE;
    this.#rows.replaceChildren(
      ...clicks.map((number, at) =>
        element("tr", {}, element("th", { scope: "row" }, time(minute(at))), element("td", {}, count(number))),
      ),
    );
  }

  #draw() {
    const width = this.#drawing.parentElement.clientWidth;
    if (width === 0 || this.#clicks.length === 0) return;
    const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
    const { top, ticks } = scale(Math.max(...this.#clicks));
    const y = (value) => MARGIN.top + inner.height * (1 - value / top);
    const step = inner.width / this.#clicks.length;
    const x = (at) => MARGIN.left + at * step;

    const grid = ticks.flatMap((tick) => [
      svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }),
      svg("text", { class: "tick", x: MARGIN.left - 8, y: y(tick) + 4, "text-anchor": "end" }, count(tick)),
    ]);
    const gap = Math.min(2, step / 3);
    const bars = this.#clicks.map((number, at) =>
      svg("rect", {
        class: "bar",
        x: (x(at) + gap / 2).toFixed(2),
        width: (step - gap).toFixed(2),
        y: y(number).toFixed(2),
        height: (y(0) - y(number)).toFixed(2),
      }),
    );
    const hours = this.#clicks.flatMap((_, at) => {
      const ms = this.#start + at * MINUTE;
      // At the end, the text would be cut.
      if (ms % (15 * MINUTE) !== 0 || at > this.#clicks.length - 3) return [];
      const anchor = at < 2 ? "start" : "middle";
      return [svg("text", { class: "tick", x: x(at), y: HEIGHT - 5, "text-anchor": anchor }, time(ms))];
    });
    this.#drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    byId("chart-shapes").replaceChildren(...grid, ...bars, ...hours);
  }

  #point(event) {
    const box = this.#drawing.getBoundingClientRect();
    const step = (box.width - MARGIN.left - MARGIN.right) / this.#clicks.length;
    const at = Math.floor((event.clientX - box.left - MARGIN.left) / step);
    this.#describe(this.#clicks[at] === undefined ? undefined : at);
  }

  /** Describes one minute, or all of them. */
  #describe(at) {
    if (this.#clicks.length === 0) return;
    const start = (of) => time(this.#start + of * MINUTE);
    const most = this.#clicks.indexOf(Math.max(...this.#clicks));
    const all = `most at ${start(most)}: ${count(this.#clicks[most])}`;
    text(this.#readout, at === undefined ? all : `${start(at)}: ${plural(this.#clicks[at], "click")}`);
    const from = start(0);
    const last = plural(this.#clicks.at(-1), "click");
    text(byId("chart-title"), `Clicks in each of the ${this.#clicks.length} minutes from ${from} UTC`);
    text(byId("chart-desc"), `The ${all} clicks; in the last minute, ${last}. The table below has all the numbers.`);
  }
}
