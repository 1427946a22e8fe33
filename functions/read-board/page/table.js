// The table of the hot products: a row a product, which moves with it.

import { sparkline } from "./chart.js";
import { byId, element, text } from "./dom.js";
import { count, percent, plural, visible } from "./format.js";
import { Minutes } from "./source.js";

const STEP = 20;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** How a product moved since the snapshot before: a class, what is seen, and what is said. */
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
  #minutes = new Minutes();
  #limit = STEP;
  #snapshot;
  /** Rows near the screen; the others' sparklines can wait. */
  #seen = new IntersectionObserver((entries) => this.#look(entries), { rootMargin: "200px" });

  constructor() {
    this.#more.addEventListener("click", () => this.#showMore());
  }

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
    for (const [product, row] of this.#rows) {
      if (!rows.has(product)) this.#seen.unobserve(row.tr);
    }
    this.#rows = rows;
    this.#arrange([...rows.values()].map((row) => row.tr));
    this.#move(before);

    const hidden = snapshot.products.length - shown.length;
    this.#more.hidden = hidden <= 0;
    text(this.#more, `Show ${Math.min(hidden, STEP)} more`);
    byId("no-clicks").hidden = snapshot.products.length > 0;
    text(byId("caption"), `The ${count(shown.length)} hottest of ${plural(snapshot.distinct_products, "product")}`);
  }

  #showMore() {
    const first = this.#limit;
    this.#limit += STEP;
    this.show(this.#snapshot);
    // Where the reader goes on.
    this.#body.rows[first]?.querySelector(".rank").focus();
  }

  #row(product) {
    const cell = (name, properties = {}, ...children) => element("td", { className: name, ...properties }, ...children);
    const row = {
      product,
      visible: false,
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
    this.#seen.observe(row.tr);
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
    row.total = product.clicks;
    this.#draw(row);
  }

  /** Draws a row's sparkline; the one before stays until the numbers are there. */
  #draw(row) {
    const end = this.#snapshot.window_end;
    const known = this.#minutes.known(row.product, end);
    const draw = (clicks) => row.spark.replaceChildren(sparkline(row.product, clicks));
    if (known) draw(known);
    else if (row.visible) {
      const wanted = () => row.visible && row.tr.isConnected && this.#snapshot.window_end === end;
      this.#minutes.ask(row.product, end, row.total, wanted, draw);
    }
  }

  #look(entries) {
    for (const { target, isIntersecting } of entries) {
      const row = this.#rows.get(target.dataset.product);
      if (row?.tr !== target) continue;
      row.visible = isIntersecting;
      if (isIntersecting) this.#draw(row);
    }
  }

  /** Brings the rows into this order, and moves none that is in its place: a moved one would lose the focus. */
  #arrange(rows) {
    const wanted = new Set(rows);
    for (const row of [...this.#body.rows]) if (!wanted.has(row)) row.remove();
    rows.forEach((row, at) => {
      if (this.#body.rows[at] !== row) this.#body.insertBefore(row, this.#body.rows[at] ?? null);
    });
  }

  /** Lets the rows glide from where they were. */
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
