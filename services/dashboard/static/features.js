// The ranked features, one row each. All sparklines have the same scale, so they can be compared.

import * as format from "./format.js";
import { tint } from "./plots.js";
import { lastKnown } from "./store.js";

const BUCKETS_MAX = 110; // per sparkline; each bucket shows its highest window
const HEIGHT = 26;
const WIDTH = 110;
const CEILING = 4; // PSI at the top edge; higher values mean strong drift in any case
const REORDER_MS = 1500; // rows that move at every window are unreadable
const SVG = "http://www.w3.org/2000/svg";

// Linear near the threshold, logarithmic above, as in the large chart.
const scale = (psi) => HEIGHT - 1 - (HEIGHT - 2) * Math.min(1, Math.asinh(psi / 0.25) / Math.asinh(CEILING / 0.25));

export class FeatureList {
  constructor(host, choose, redraw) {
    this.host = host;
    this.choose = choose;
    this.redraw = redraw;
    this.rows = new Map();
    this.known = { key: "", names: [], atMs: 0 };
    this.timer = 0;
  }

  // Names from the most drifted on: by the latest window, by the peak in view, or by name.
  order(columns, rank, range) {
    const names = [...columns.features.keys()];
    const key = `${rank}:${names.join("|")}`;
    if (this.known.key === key && Date.now() - this.known.atMs < REORDER_MS) {
      this.timer ||= setTimeout(() => {
        this.timer = 0;
        this.redraw();
      }, REORDER_MS);
      return this.known.names;
    }
    const entries = names.map((name) => {
      const feature = columns.features.get(name);
      return { label: feature.label, weight: strength(feature, columns.seconds, rank, range), name };
    });
    entries.sort((a, b) => (rank === "name" ? a.label.localeCompare(b.label, "en") : b.weight - a.weight));
    names.splice(0, names.length, ...entries.map(({ name }) => name));
    this.known = { key, names, atMs: Date.now() };
    return names;
  }

  draw(view, rank) {
    const { columns, order, selected } = view;
    for (const [name, row] of this.rows) {
      if (columns.features.has(name)) continue;
      row.item.remove();
      this.rows.delete(name);
    }
    const until = endOf(columns.seconds, view.range);
    order.forEach((name, position) => {
      const row = this.rows.get(name) ?? this.#make(name, columns.features.get(name).label);
      this.#fill(row, columns, name, selected.indexOf(name), rank, view.range, until);
      if (this.host.children[position] !== row.item) this.#move(row.item, position);
    });
  }

  show(name) {
    this.rows.get(name)?.item.scrollIntoView({ block: "nearest" });
  }

  // Moving an element removes its focus; restore it.
  #move(item, position) {
    const focused = document.activeElement;
    this.host.insertBefore(item, this.host.children[position] ?? null);
    if (focused !== document.activeElement) focused?.focus({ preventScroll: true });
  }

  #make(name, text) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "feature";
    button.addEventListener("click", (event) => this.choose(name, event.shiftKey || event.ctrlKey || event.metaKey));
    const label = document.createElement("span");
    label.className = "feature-name";
    text.split(/(?<=_)/).forEach((part, at) => label.append(...(at ? [document.createElement("wbr")] : []), part));
    const [spark, line, over, limit] = sparkline();
    const value = document.createElement("span");
    value.className = "feature-value";
    const note = document.createElement("span");
    note.className = "unseen";
    button.append(label, spark, value, note);
    item.append(button);
    const row = { item, button, line, over, limit, value, note, drawn: "" };
    this.rows.set(name, row);
    return row;
  }

  #fill(row, columns, name, slot, rank, range, until) {
    const feature = columns.features.get(name);
    const at = rank === "peak" ? peakIndex(feature.psi, columns.seconds, range) : lastKnown(feature.psi, until);
    const psi = feature.psi[at] ?? null;
    const threshold = feature.threshold[at] ?? null;
    const over = feature.drifted[at] ?? false;
    row.value.textContent = format.psi(psi);
    row.note.textContent = over ? ", drifted" : "";
    row.button.classList.toggle("is-over", over);
    row.button.setAttribute("aria-pressed", String(slot >= 0));
    row.button.style.setProperty("--tint", slot >= 0 ? tint(slot) : "transparent");
    const key = `${columns.seconds.length}:${columns.seconds.at(-1)}:${range.join(":")}`;
    if (row.drawn === key && row.columns === columns) return;
    [row.drawn, row.columns] = [key, columns];
    const paths = sparkPaths(feature, columns.seconds, range);
    row.line.setAttribute("d", paths.line);
    row.over.setAttribute("d", paths.over);
    row.limit.setAttribute("d", threshold === null ? "" : `M0 ${scale(threshold).toFixed(1)}H${WIDTH}`);
  }
}

function strength(feature, seconds, rank, range) {
  const at = rank === "peak" ? peakIndex(feature.psi, seconds, range) : lastKnown(feature.psi, endOf(seconds, range));
  return at < 0 ? -1 : feature.psi[at] / (feature.threshold[at] || 0.25);
}

function endOf(seconds, [, to]) {
  let at = seconds.length - 1;
  while (at > 0 && seconds[at] > to) at -= 1;
  return at;
}

function peakIndex(values, seconds, [from, to]) {
  let best = -1;
  values.forEach((value, at) => {
    if (value !== null && seconds[at] >= from && seconds[at] <= to && (best < 0 || value > values[best])) best = at;
  });
  return best;
}

function sparkline() {
  const svg = document.createElementNS(SVG, "svg");
  const parts = ["spark-over", "spark-threshold", "spark-line"].map((name) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    svg.append(path);
    return path;
  });
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  return [svg, parts[2], parts[0], parts[1]];
}

function sparkPaths(feature, seconds, [from, to]) {
  const highest = new Map();
  seconds.forEach((at, index) => {
    const value = feature.psi[index];
    if (value === null || at < from || at > to) return;
    const bucket = Math.min(BUCKETS_MAX - 1, Math.floor(((at - from) / (to - from)) * BUCKETS_MAX));
    const known = highest.get(bucket);
    if (!known || value > known.value) highest.set(bucket, { value, threshold: feature.threshold[index] ?? 0.25 });
  });
  let [line, over] = ["", ""];
  for (const [bucket, { value, threshold }] of highest) {
    const x = ((bucket + 0.5) / BUCKETS_MAX) * WIDTH;
    line += `${line ? "L" : "M"}${x.toFixed(1)} ${scale(value).toFixed(1)}`;
    if (value > threshold) over += `M${x.toFixed(1)} ${scale(threshold).toFixed(1)}V${scale(value).toFixed(1)}`;
  }
  if (highest.size === 1) line += "h0.01";
  return { line, over };
}
