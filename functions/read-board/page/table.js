// The table of the hot products. Each product keeps its row, which moves when its rank changes.

import { sparkline } from "./chart.js";
import { byId, element, text } from "./dom.js";
import { count, percent, plural, visible } from "./format.js";

const STEP = 20;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** How a product moved since the previous snapshot: a class, the visible text, and the text for screen readers. */
function movement({ rank, previous_rank: before }) {
  if (before === undefined) return ["new", "new", "new"];
  const places = Math.abs(before - rank);
  if (before > rank) return ["up", `▲ ${places}`, `up ${plural(places, "place")}`];
  if (before < rank) return ["down", `▼ ${places}`, `down ${plural(places, "place")}`];
  return ["same", "=", "same rank"];
}

export class ProductTable {
  #body = byId("products");
  #more = byId("more");
  #rows = new Map();
  #limit = STEP;
  #snapshot;
  /** The clicks per minute by product, and the end of their window. */
  #minutes = { end: undefined, products: new Map() };

  constructor() {
    this.#more.addEventListener("click", () => this.#showMore());
  }

  /** Shows `snapshot`. The sparklines of its rows follow with `showMinutes`; until then the old ones stay. */
  show(snapshot) {
    const before = new Map([...this.#rows].map(([product, row]) => [product, row.tr.offsetTop]));
    this.#snapshot = snapshot;
    const shown = snapshot.products.slice(0, this.#limit);
    const most = Math.max(1, ...shown.map((product) => product.clicks));
    const rows = new Map();
    for (const product of shown) {
      const row = this.#rows.get(product.product_id) ?? this.#row(product.product_id);
      rows.set(product.product_id, row);
      this.#fill(row, product, most);
    }
    this.#rows = rows;
    this.#arrange([...rows.values()].map((row) => row.tr));
    this.#move(before);
    this.#draw();

    const hidden = snapshot.products.length - shown.length;
    this.#more.hidden = hidden <= 0;
    text(this.#more, `Show ${Math.min(hidden, STEP)} more`);
    byId("no-clicks").hidden = snapshot.products.length > 0;
    text(byId("caption"), `The ${count(shown.length)} hottest of ${plural(snapshot.distinct_products, "product")}`);
  }

  /** Draws the sparklines of the window that ended at `end`, from the clicks per minute by product. */
  showMinutes(end, products) {
    this.#minutes = { end, products };
    this.#draw();
  }

  #draw() {
    if (this.#minutes.end !== this.#snapshot.window_end) return;
    for (const [product, row] of this.#rows) {
      const clicks = this.#minutes.products.get(product);
      row.spark.replaceChildren(...(clicks ? [sparkline(product, clicks)] : []));
    }
  }

  #showMore() {
    const first = this.#limit;
    this.#limit += STEP;
    this.show(this.#snapshot);
    // Focus the first new row.
    this.#body.rows[first]?.querySelector(".rank").focus();
  }

  #row(product) {
    const cell = (name, properties = {}, ...children) => element("td", { className: name, ...properties }, ...children);
    const row = {
      rank: cell("rank", { tabIndex: -1 }),
      move: element("span", { ariaHidden: "true" }),
      moved: element("span", { className: "hidden" }),
      clicks: cell("clicks"),
      bar: element("span", { className: "bar", ariaHidden: "true" }),
      share: element("span", { className: "percent" }),
      spark: cell("minutes"),
    };
    const name = element("bdi", { className: "id", title: visible(product) }, visible(product));
    row.tr = element(
      "tr",
      {},
      row.rank,
      cell("move", {}, row.move, row.moved),
      element("th", { className: "product", scope: "row" }, name),
      row.clicks,
      cell("share", {}, row.bar, row.share),
      row.spark,
    );
    row.tr.dataset.product = product;
    return row;
  }

  #fill(row, product, most) {
    const [kind, shown, said] = movement(product);
    text(row.rank, count(product.rank));
    row.move.className = `movement ${kind}`;
    text(row.move, shown);
    text(row.moved, said);
    text(row.clicks, count(product.clicks));
    text(row.share, percent(product.clicks / Math.max(1, this.#snapshot.total_clicks)));
    row.bar.style.setProperty("--share", product.clicks / most);
  }

  /** Puts the rows into this order. A row that is already in its place is not moved, because it would lose the focus. */
  #arrange(rows) {
    const wanted = new Set(rows);
    for (const row of [...this.#body.rows]) if (!wanted.has(row)) row.remove();
    rows.forEach((row, at) => {
      if (this.#body.rows[at] !== row) this.#body.insertBefore(row, this.#body.rows[at] ?? null);
    });
  }

  /** Animates the rows from their old places. */
  #move(before) {
    if (calm.matches || document.hidden) return;
    for (const [product, { tr }] of this.#rows) {
      const from = before.get(product);
      if (from === undefined || from === tr.offsetTop) continue;
      const glide = [{ transform: `translateY(${from - tr.offsetTop}px)` }, { transform: "none" }];
      tr.animate(glide, { duration: 350, easing: "cubic-bezier(0.2, 0, 0, 1)" });
    }
  }
}
