// Connects the parts: stream -> store -> view -> charts, lists, tables.

import { Connection } from "./connection.js";
import * as format from "./format.js";
import { bindKeys } from "./keys.js";
import { drawArms } from "./arms.js";
import { costs } from "./costs.js";
import { decisions, drawControl, drawMatrix } from "./decisions.js";
import { FeatureList } from "./features.js";
import * as panels from "./panels.js";
import { marks, Plots } from "./plots.js";
import { Selection } from "./selection.js";
import { lastKnown, SCORE, Store } from "./store.js";
import { renderTable } from "./tables.js";

const QUEUE_MAX = 500; // events kept while paused; if there are more, continuing fetches everything again
const TABLE_MS = 1000; // tables are rebuilt at most once a second
const $ = (id) => document.getElementById(id);

const store = new Store();
let connection = { status: "connecting", heardMs: null };
let paused = false;
let queue = [];
let queueOverflowed = false;
let index = null; // the window under the cursor
let markIndex = null;
let frame = 0;
let tablesStale = false;
let tableTimer = 0;
let changed = true; // data or selection, since the last painting; the pulse alone moves no chart

const selection = new Selection(() => {
  markIndex = null;
  clearTimeout(tableTimer); // user input is not delayed
  tableTimer = 0;
  draw(true);
});
const list = new FeatureList($("feature-list"), (name, add) => selection.choose(name, add), () => draw(true));
const plots = new Plots({
  zoom: (from, to) => selection.update({ range: { from: Math.round(from), to: Math.round(to) } }),
  reset: () => selection.update({ range: {} }),
  point: (at) => {
    index = at;
    drawReadouts();
  },
  mark: (mark) => panels.eventText($("event-text"), mark ?? latestMark(), mark === null, current.name),
});

function receive(name, document) {
  if (name === "pulse") {
    store.pulse = document;
    return draw(false);
  }
  if (paused) {
    if (queue.length < QUEUE_MAX) queue.push([name, document]);
    else queueOverflowed = true;
    return drawPause();
  }
  store[name](document);
  draw(true);
}

async function pause(on) {
  paused = on;
  if (!on) {
    if (queueOverflowed) store.snapshot(await (await fetch("/api/state")).json());
    else for (const [name, document] of queue) store[name](document);
    [queue, queueOverflowed] = [[], false];
  }
  drawPause();
  draw(true);
}

function drawPause() {
  const button = $("pause");
  button.setAttribute("aria-pressed", String(paused));
  const missed = queue.reduce((sum, [, document]) => sum + Object.values(document.models).reduce((n, model) => n + model.windows.length, 0), 0);
  button.textContent = !paused ? "Pause" : missed ? `Continue (${queueOverflowed ? "many" : missed} new)` : "Continue";
  panels.link(connection, store.pulse, paused);
}

// The current view, from the store and the selection.
function view() {
  const name = selection.model ?? store.liveliest();
  const model = store.model(name);
  const columns = model.derive();
  const order = list.order(columns, selection.rank, range(columns));
  const known = selection.features.filter((feature) => columns.features.has(feature));
  const declared = store.declared[name] ?? null;
  const selected = known.length ? known : order.slice(0, 1);
  return {
    name,
    model,
    columns,
    declared,
    values: columns.features.get(selected[0])?.values ?? null,
    costs: costs(columns),
    decisions: decisions(columns, selection.threshold),
    harm: harm(columns, declared),
    range: range(columns),
    order,
    selected,
    nowMs: panels.eventNow(store.pulse, name, columns),
    nowSeconds: panels.eventNow(store.pulse, name, columns) / 1000,
    pulse: store.pulse,
    connection,
  };
}

// The limit of the loss by window, as the loss alarm has it: what the reference is too small to tell is no harm, and the
// tolerance of a regression is a share of its loss in training.
function harm({ windows, reference, isRegression }, declared) {
  return reference.map((loss, at) => {
    if (loss === null || !declared) return null;
    const tolerance = declared.loss_tolerance * (isRegression ? loss : 1);
    return loss + Math.max(tolerance, windows[at].reference_loss_error);
  });
}

function range(columns) {
  const { seconds } = columns;
  if (selection.range.from !== undefined) return [selection.range.from / 1000, selection.range.to / 1000];
  if (!seconds.length) return [0, 1];
  const [first, last] = [columns.windows[0].start_ms / 1000, seconds.at(-1)];
  if (selection.range.last) return [last - selection.range.last * 86_400, last];
  return [first, Math.max(last, first + 7 * 86_400)]; // otherwise a single first day would fill the whole width
}

function draw(anew) {
  changed ||= anew;
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    paint();
  });
}

let current = null;

function paint() {
  if (!current || changed) current = view();
  else refreshPulse();
  const empty = current.columns.windows.length === 0;
  panels.models(store.names(), current.name);
  panels.strip(current);
  panels.link(connection, store.pulse, paused);
  panels.notice(current, store, empty);
  panels.summary($("summary"), current, empty);
  if (!changed) return;
  changed = false;
  panels.account(current.columns);
  panels.bounds(store.bounds, current);
  panels.ranges(selection.range, current.range, empty);
  document.body.classList.toggle("is-empty", empty);
  $("values").hidden = !current.values;
  $("costs").hidden = !current.costs;
  $("decisions").hidden = !current.decisions;
  if (current.decisions) drawControl(current.decisions);
  if (empty) plots.clear();
  else plots.update(current);
  list.draw(current, selection.rank);
  if (index !== null && index >= current.columns.windows.length) index = null;
  drawReadouts();
  if (markIndex === null) panels.eventText($("event-text"), latestMark(), true, current.name);
  tablesStale = true;
  drawTables();
}

// After a pulse, only strip and texts are drawn; the charts do not change.
function refreshPulse() {
  const nowMs = panels.eventNow(store.pulse, current.name, current.columns);
  Object.assign(current, { pulse: store.pulse, connection, nowMs, nowSeconds: nowMs / 1000 });
}

function latestMark() {
  return marks(current.columns).at(-1) ?? null;
}

function drawReadouts() {
  if (!current) return;
  panels.driftLegend($("drift-legend"), current, index);
  panels.performanceLegend($("performance-legend"), current, index);
  drawArms($("arms"), current, index);
  panels.valuesLegend($("values-legend"), current, index);
  panels.costsLegend($("costs-legend"), current, index);
  panels.decisionsLegend($("decisions-legend"), current, index);
  if (current.decisions) drawMatrix(current.decisions, index);
  panels.report($("report"), current, index);
}

function drawTables() {
  const open = [...document.querySelectorAll("[data-table]")].filter((button) => {
    const on = selection.tables.has(button.dataset.table);
    button.setAttribute("aria-expanded", String(on));
    $(`${button.dataset.table}-table`).hidden = !on;
    return on;
  });
  if (!open.length || !tablesStale || tableTimer) return;
  tablesStale = false;
  tableTimer = setTimeout(() => {
    tableTimer = 0;
    drawTables();
  }, TABLE_MS);
  for (const { dataset } of open) renderTable($(`${dataset.table}-table`), dataset.table, current);
}

// Arrow keys on a chart move a cursor over the windows, on the lanes over the marks.
function step(plot, key) {
  if (!current || !current.columns.windows.length) return;
  if (plot === "events-plot") return stepMark(key);
  const [low, high] = visible();
  const at = index ?? lastKnown(current.columns.seconds, high);
  const next = { ArrowLeft: at - (index === null ? 0 : 1), ArrowRight: at + 1, Home: low, End: high, Escape: null }[key];
  plots.point(next === null ? null : Math.min(high, Math.max(low, next)));
  $("announcer").textContent = next === null ? "" : panels.spoken(current, index, plot);
}

function visible() {
  const [from, to] = current.range;
  const inside = current.columns.seconds.map((at, position) => (at >= from && at <= to ? position : -1)).filter((position) => position >= 0);
  return [inside[0] ?? 0, inside.at(-1) ?? current.columns.seconds.length - 1];
}

function stepMark(key) {
  const all = marks(current.columns).filter((mark) => mark.ms / 1000 >= current.range[0] && mark.ms / 1000 <= current.range[1]);
  if (!all.length) return;
  const at = markIndex ?? all.length - 1;
  markIndex = { ArrowLeft: at - (markIndex === null ? 0 : 1), ArrowRight: at + 1, Home: 0, End: all.length - 1, Escape: null }[key];
  if (markIndex === null) {
    plots.point(null);
    return panels.eventText($("event-text"), latestMark(), true, current.name);
  }
  markIndex = Math.min(all.length - 1, Math.max(0, markIndex));
  const mark = all[markIndex];
  const nearest = current.columns.seconds.findIndex((seconds) => seconds * 1000 >= mark.ms);
  plots.point(nearest < 0 ? current.columns.seconds.length - 1 : nearest);
  panels.eventText($("event-text"), mark, false, current.name);
  $("announcer").textContent = $("event-text").textContent;
}

function zoomBy(factor) {
  if (!current?.columns.windows.length) return;
  const [from, to] = current.range;
  const middle = index === null ? (from + to) / 2 : current.columns.seconds[index];
  const half = Math.max(86_400, ((to - from) / 2) * factor);
  const [first, last] = [current.columns.windows[0].start_ms / 1000, current.columns.seconds.at(-1)];
  if (half * 2 >= last - first) return selection.update({ range: {} });
  selection.update({ range: { from: Math.round((middle - half) * 1000), to: Math.round((middle + half) * 1000) } });
}

function stepFeature(by) {
  if (!current?.order.length) return;
  const at = current.order.indexOf(current.selected[0]);
  const next = current.order[(at + by + current.order.length) % current.order.length];
  selection.choose(next === selection.features[0] && selection.features.length === 1 ? current.order[at] : next, false);
  list.show(next);
  $("announcer").textContent = next === SCORE ? "Model score" : next;
}

function setTheme(choice) {
  const root = document.documentElement;
  if (choice === "system") delete root.dataset.theme;
  else root.dataset.theme = choice;
  try {
    localStorage.setItem("driftline-theme", choice);
  } catch {
    // Without storage the choice is valid until the page is closed.
  }
  document.querySelector(`input[name=theme][value=${choice}]`).checked = true;
  plots.recolour();
}

function wire() {
  setTheme(document.documentElement.dataset.theme ?? "system");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.recolour());
  $("theme").addEventListener("change", (event) => setTheme(event.target.value));
  $("rank").addEventListener("change", (event) => selection.update({ rank: event.target.value }));
  document.querySelector(`input[name=rank][value=${selection.rank}]`).checked = true;
  $("pause").addEventListener("click", () => pause(!paused));
  $("threshold").addEventListener("input", (event) => selection.update({ threshold: current.decisions.thresholds[Number(event.target.value)] }));
  $("threshold-declared").addEventListener("click", () => {
    selection.update({ threshold: null });
    $("threshold").focus();
  });
  $("help-open").addEventListener("click", () => $("help").showModal());
  $("model").addEventListener("change", (event) => selection.update({ model: event.target.value, features: [], range: {}, threshold: null }));
  for (const button of document.querySelectorAll("[data-range]")) {
    const { range: days } = button.dataset;
    button.addEventListener("click", () => selection.update({ range: days === "all" ? {} : { last: Number(days) } }));
  }
  for (const button of document.querySelectorAll("[data-table]")) {
    button.addEventListener("click", () => selection.toggleTable(button.dataset.table));
  }
  bindKeys({
    help: () => $("help").showModal(),
    pause: () => pause(!paused),
    theme: () => {
      const order = ["system", "light", "dark"];
      setTheme(order[(order.indexOf(document.querySelector("input[name=theme]:checked").value) + 1) % 3]);
    },
    feature: stepFeature,
    zoom: zoomBy,
    all: () => selection.update({ range: {} }),
    step,
  });
}

wire();
document.fonts.ready.then(() => plots.recolour());
connection = new Connection({
  snapshot: (document) => {
    store.pulse = document.pulse;
    receive("snapshot", document);
  },
  delta: (document) => receive("delta", document),
  pulse: (document) => receive("pulse", document),
  status: () => draw(true),
});
draw(true);
