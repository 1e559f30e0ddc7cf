// The charts: uPlot with one shared time axis. They draw the given data and report zooming and cursor moves.

import { amount } from "./costs.js";
import * as format from "./format.js";

const { uPlot } = window;
const GUTTER = 76; // left of every chart, so that all time axes are aligned
const RIGHT = 30;
const CONTEXT_LINES_MAX = 64;
const PSI_TICKS = [0, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32];
const LANES = ["Alarms", "Retrainings", "Live version"];
const LANE_HEIGHT = 38;
const HIT_PIXELS = 14;
const NARROW_PIXELS = 560;
const TINTS = ["--ink", "--second", "--third", "--fourth"];

let colours = {};

export function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["--ink", "--muted", "--rule", "--grid", "--live", "--live-soft", "--frozen", "--alarm", "--alarm-soft", "--good", "--context", "--paper", "--second", "--third", "--fourth", "--band", "--band-text"];
  colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(name).trim()]));
}

export const tint = (index) => `var(${TINTS[index]})`;

export class Plots {
  constructor(actions) {
    this.actions = actions;
    this.charts = new Map();
    this.range = [0, 1];
    this.columns = null;
    this.index = null;
    readColours();
    this.observer = new ResizeObserver((entries) => {
      for (const entry of entries) {
        const chart = this.charts.get(entry.target.id);
        const width = Math.floor(entry.contentRect.width);
        if (chart && width > 0 && width !== chart.width) chart.setSize({ width, height: chart.height });
      }
    });
  }

  // Draw everything. `view`: {columns, range in seconds, selected names, boundary of the context lines}.
  update(view) {
    this.columns = view.columns;
    this.selected = view.selected;
    this.range = view.range;
    this.harm = view.harm;
    this.nowSeconds = view.nowSeconds;
    this.#ensure("drift-plot", this.#driftKey(), () => this.#drift());
    this.#ensure("events-plot", "events", () => this.#lanes());
    this.#ensure("performance-plot", "performance", () => this.#performance());
    this.#ensure("coverage-plot", "coverage", () => this.#coverage());
    this.decisions = view.decisions;
    this.#optional("decisions-plot", view.decisions, () => this.#decisions());
    const values = view.values;
    this.#optional("values-plot", values, () => this.#values());
    if (values) {
      const { expectedLow, expectedHigh, expected, low, high, mean, median } = values;
      this.#set("values-plot", [view.columns.seconds, expectedLow, expectedHigh, expected, low, high, mean, median]);
    }
    this.#optional("costs-plot", view.costs, () => this.#costs());
    this.#optional("saved-plot", view.costs, () => this.#saved());
    const { columns } = this;
    if (view.costs) {
      const { mean, reference, before, meanSmooth, saved } = view.costs;
      this.#set("costs-plot", [columns.seconds, mean, reference, before, meanSmooth]);
      this.#set("saved-plot", [columns.seconds, saved]);
    }
    if (view.decisions) this.#set("decisions-plot", [columns.seconds, view.decisions.f1, view.decisions.precision, view.decisions.recall]);
    this.#set("drift-plot", [columns.seconds, ...this.#context().map((f) => f.psi), ...this.#chosen()]);
    this.#set("events-plot", [columns.seconds, columns.seconds.map(() => null)]);
    this.#set("performance-plot", [columns.seconds, columns.live, columns.frozen, columns.reference, columns.estimatedSmooth, columns.frozenSmooth, columns.liveSmooth]);
    this.#set("coverage-plot", [columns.seconds, columns.coverage]);
  }

  recolour() {
    readColours();
    for (const chart of this.charts.values()) chart.redraw(false, true);
  }

  clear() {
    for (const [id, chart] of this.charts) {
      chart.destroy();
      this.observer.unobserve(document.getElementById(id));
    }
    this.charts.clear();
  }

  // Put the cursor of all charts on a window; null removes it.
  point(index) {
    const chart = this.charts.get("drift-plot");
    if (!chart) return;
    if (index === null) return chart.setCursor({ left: -10, top: -10 });
    const left = chart.valToPos(this.columns.seconds[index], "x");
    chart.setCursor({ left, top: 10 });
  }

  #set(id, data) {
    const chart = this.charts.get(id);
    const crowded = visibleCount(data[0], this.range) * 4 > chart.over.clientWidth;
    for (const series of chart.series) if (series.chosen) series.width = crowded ? 1.25 : 2;
    chart.batch(() => {
      chart.setData(data, false);
      chart.setScale("x", { min: this.range[0], max: this.range[1] });
    });
  }

  #ensure(id, key, make) {
    const known = this.charts.get(id);
    if (known?.driftlineKey === key) return;
    known?.destroy();
    const host = document.getElementById(id);
    host.textContent = "";
    const options = make();
    options.width = Math.max(200, Math.floor(host.clientWidth));
    const chart = new uPlot(options, [[], ...options.series.slice(1).map(() => [])], host);
    chart.driftlineKey = key;
    this.charts.set(id, chart);
    this.observer.observe(host);
  }

  // A chart that only some models have.
  #optional(id, shown, make) {
    if (shown) return this.#ensure(id, id, make);
    this.charts.get(id)?.destroy();
    this.charts.delete(id);
  }

  #options(height, extra) {
    return {
      height,
      pxAlign: 0,
      legend: { show: false },
      padding: [8, RIGHT, 0, 0],
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: {
        y: false,
        sync: { key: "event-time", scales: ["x", null] },
        drag: { x: true, y: false, setScale: false, dist: 4 },
        bind: { dblclick: () => () => this.actions.reset() },
        points: { size: 7, width: 2, show: (chart, series) => Boolean(chart.series[series].dot) && cursorPoint(chart.series[series].dot) },
      },
      ...extra,
      hooks: {
        ...extra.hooks,
        setCursor: [(chart) => this.#moved(chart), ...(extra.hooks?.setCursor ?? [])],
        setSelect: [(chart) => this.#dragged(chart)],
      },
    };
  }

  #moved(chart) {
    const index = chart.cursor.idx ?? null;
    const inside = chart.cursor.left >= 0 ? index : null;
    if (inside === this.index) return;
    this.index = inside;
    this.actions.point(inside);
  }

  #dragged(chart) {
    const { left, width } = chart.select;
    if (width <= 0) return;
    const [from, to] = [chart.posToVal(left, "x"), chart.posToVal(left + width, "x")];
    for (const other of this.charts.values()) other.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.actions.zoom(from * 1000, to * 1000);
  }

  #timeAxis(labels) {
    return {
      stroke: () => colours["--muted"],
      font: axisFont(),
      grid: { stroke: () => colours["--grid"], width: 1 },
      ticks: { show: labels, stroke: () => colours["--rule"], width: 1, size: 5 },
      size: labels ? 30 : 4,
      gap: 4,
      space: 74,
      values: (chart, splits, axis, space, increment) => (labels ? format.ticks(splits, increment) : splits.map(() => "")),
    };
  }

  #valueAxis(values, extra = {}) {
    return {
      stroke: () => colours["--muted"],
      font: axisFont(),
      grid: { stroke: () => colours["--grid"], width: 1 },
      ticks: { show: false },
      size: GUTTER,
      gap: 10,
      values: (chart, splits) => splits.map(values),
      ...extra,
    };
  }

  #driftKey() {
    return `drift:${this.#context().map((feature) => feature.name).join("|")}`;
  }

  #context() {
    return [...this.columns.features.values()].slice(0, CONTEXT_LINES_MAX);
  }

  #chosen() {
    return TINTS.map((_, slot) => this.#feature(slot)?.psi ?? this.columns.seconds.map(() => null));
  }

  #feature(slot) {
    return this.columns.features.get(this.selected[slot]);
  }

  #drift() {
    const context = this.#context().map(() => line("--context", 1, { points: { show: false } }));
    const chosen = TINTS.map((name) => line(name, 2, { dot: name, chosen: true }));
    const split = (chart) => PSI_TICKS.filter((tick) => tick <= chart.scales.y.max);
    return this.#options(narrow() ? 240 : 300, {
      series: [{}, ...context, ...chosen],
      scales: {
        x: { time: true, range: () => this.range },
        // Linear below the usual threshold, logarithmic above: both 0.05 and 5 can be read.
        y: { distr: 4, asinh: 0.25, range: (chart, low, high) => [0, Math.max(0.6, (high ?? 0) * 1.15)] },
      },
      axes: [this.#timeAxis(true), this.#valueAxis(format.psi, { splits: split, filter: (chart, splits) => splits })],
      hooks: { drawAxes: [(chart) => this.#drawThreshold(chart)] },
    });
  }

  #performance() {
    const raw = (name) => line(name, 1, { alpha: 0.34 });
    return this.#options(narrow() ? 220 : 250, {
      series: [
        {},
        raw("--live"),
        raw("--frozen"),
        line("--ink", 1.25, { dash: [5, 4], paths: uPlot.paths.stepped({ align: 1 }) }),
        line("--second", 1.25, { dash: [2, 3] }),
        line("--frozen", 2, { dot: "--frozen" }),
        line("--live", 2.25, { dot: "--live" }),
      ],
      scales: { x: { time: true, range: () => this.range }, y: { range: (chart, low, high) => padded(low, high) } },
      axes: [this.#timeAxis(false), this.#valueAxis((value) => format.decimal(value, 2), { space: 34 })],
      hooks: { drawAxes: [(chart) => this.#drawGain(chart)] },
    });
  }

  #decisions() {
    return this.#options(narrow() ? 180 : 200, {
      series: [{}, line("--ink", 1.25, { dash: [5, 4], dot: "--ink" }), line("--second", 2, { dot: "--second" }), line("--third", 2, { dot: "--third" })],
      scales: { x: { time: true, range: () => this.range }, y: { range: () => [0, 1] } },
      axes: [this.#timeAxis(true), this.#valueAxis((value) => format.percent(value), { splits: () => [0, 0.25, 0.5, 0.75, 1] })],
      hooks: { drawAxes: [(chart) => this.#drawPromotions(chart)] },
    });
  }

  #values() {
    const stepped = { paths: uPlot.paths.stepped({ align: 1 }), dash: [5, 4] };
    const edge = { stroke: () => colours["--rule"], width: 1, points: { show: false }, spanGaps: false };
    return this.#options(narrow() ? 170 : 190, {
      series: [
        {},
        line("--muted", 1, stepped),
        line("--muted", 1, stepped),
        line("--muted", 1.5, stepped),
        edge,
        edge,
        line("--second", 1.25),
        line("--ink", 2, { dot: "--ink" }),
      ],
      bands: [{ series: [5, 4], fill: () => colours["--band"] }],
      scales: { x: { time: true, range: () => this.range }, y: { range: (chart, low, high) => around(low, high) } },
      axes: [this.#timeAxis(true), this.#valueAxis(format.significant, { space: 30 })],
      hooks: { drawAxes: [(chart) => this.#drawPromotions(chart)] },
    });
  }

  #costs() {
    const stepped = { paths: uPlot.paths.stepped({ align: 1 }) };
    return this.#options(narrow() ? 180 : 200, {
      series: [
        {},
        line("--live", 1, { alpha: 0.34 }),
        line("--ink", 1.25, { dash: [5, 4], ...stepped }),
        line("--second", 1.25, { dash: [2, 3], ...stepped }),
        line("--live", 2.25, { dot: "--live" }),
      ],
      scales: { x: { time: true, range: () => this.range }, y: { range: (chart, low, high) => padded(low, high) } },
      axes: [this.#timeAxis(false), this.#valueAxis(amount, { space: 34 })],
      hooks: { drawAxes: [(chart) => this.#drawPromotions(chart)] },
    });
  }

  #saved() {
    return this.#options(120, {
      series: [{}, { stroke: () => colours["--muted"], fill: () => colours["--band"], width: 1, points: { show: false }, spanGaps: false }],
      scales: { x: { time: true, range: () => this.range }, y: { range: (chart, low, high) => aroundZero(low, high) } },
      axes: [this.#timeAxis(true), this.#valueAxis(amount, { space: 28 })],
      hooks: { drawAxes: [(chart) => this.#drawPromotions(chart)] },
    });
  }

  #coverage() {
    return this.#options(96, {
      series: [{}, { stroke: () => colours["--muted"], fill: () => colours["--band"], width: 1, points: { show: false }, spanGaps: false }],
      scales: { x: { time: true, range: () => this.range }, y: { range: (chart, low, high) => [0, Math.max(1, (high ?? 0) * 1.05)] } },
      axes: [this.#timeAxis(true), this.#valueAxis((value) => format.percent(value), { splits: (chart) => (chart.scales.y.max > 1.6 ? [0, 1, 2] : [0, 0.5, 1]) })],
      hooks: { drawAxes: [(chart) => this.#drawPromotions(chart)] },
    });
  }

  #lanes() {
    return this.#options(LANES.length * LANE_HEIGHT + 12, {
      series: [{}, { show: true, points: { show: false } }],
      scales: { x: { time: true, range: () => this.range }, y: { range: () => [0, LANES.length] } },
      axes: [
        this.#timeAxis(false),
        this.#valueAxis(() => "", {
          splits: () => LANES.map((_, lane) => LANES.length - lane - 0.5),
          values: () => LANES,
          grid: { show: false },
        }),
      ],
      hooks: { draw: [(chart) => this.#drawLanes(chart)], setCursor: [(chart) => this.#near(chart)] },
    });
  }

  // The nearest mark to the mouse, if it is near enough.
  #near(chart) {
    const { left, top, event } = chart.cursor;
    if (!event || !chart.over.contains(event.target)) return;
    const lane = Math.floor((top / chart.over.clientHeight) * LANES.length);
    let [best, distance] = [null, HIT_PIXELS];
    for (const mark of marks(this.columns)) {
      const away = Math.abs(chart.valToPos(mark.ms / 1000, "x") - left) + (mark.lane === lane ? 0 : HIT_PIXELS / 2);
      if (away < distance) [best, distance] = [mark, away];
    }
    this.actions.mark(best);
  }

  #drawPromotions(chart) {
    const { ctx } = chart;
    ctx.save();
    ctx.strokeStyle = colours["--good"];
    ctx.globalAlpha = 0.4;
    ctx.lineWidth = devicePixelRatio;
    for (const promotion of this.columns.promotions) vertical(chart, promotion.effective_from_ms / 1000);
    ctx.restore();
  }

  // The threshold of the first selected feature; the area above it is filled.
  #drawThreshold(chart) {
    this.#drawPromotions(chart);
    const feature = this.#feature(0);
    if (!feature) return;
    const { ctx } = chart;
    clipped(chart, () => {
      ctx.fillStyle = colours["--alarm-soft"];
      between(chart, this.columns.seconds, feature.psi, feature.threshold, (value, limit) => Math.max(value, limit));
      this.#dotted(chart, feature.threshold);
    });
  }

  // A limit; values above it are too high.
  #dotted(chart, limits) {
    const { ctx } = chart;
    ctx.strokeStyle = colours["--alarm"];
    ctx.lineWidth = 1.25 * devicePixelRatio;
    ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
    polyline(chart, this.columns.seconds, limits);
    ctx.stroke();
    ctx.setLineDash([]);
  }

  #drawGain(chart) {
    this.#drawPromotions(chart);
    const { columns } = this;
    clipped(chart, () => {
      this.#dotted(chart, this.harm);
      chart.ctx.fillStyle = colours["--live-soft"];
      between(chart, columns.seconds, columns.frozenSmooth, columns.liveSmooth, (frozen, live) => Math.max(frozen, live));
      chart.ctx.fillStyle = colours["--alarm-soft"];
      between(chart, columns.seconds, columns.liveSmooth, columns.frozenSmooth, (live, frozen) => Math.max(live, frozen));
    });
  }

  #drawLanes(chart) {
    const { ctx, bbox } = chart;
    ctx.save();
    ctx.strokeStyle = colours["--rule"];
    ctx.lineWidth = devicePixelRatio;
    for (let lane = 1; lane <= LANES.length; lane += 1) {
      const y = bbox.top + (bbox.height * lane) / LANES.length;
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
    ctx.restore();
    clipped(chart, () => {
      this.#drawLinks(chart);
      this.#drawVersions(chart);
    });
    clipped(chart, () => {
      const lastMs = this.columns.windows.at(-1)?.end_ms ?? 0;
      for (const alarm of this.columns.alarms) drawAlarm(chart, alarm, Math.max(lastMs, alarm.detected_at_ms));
      for (const retraining of this.columns.retrainings) drawRetraining(chart, retraining);
    }, 8);
  }

  // Lines from the alarms to the retraining to the version that it produced.
  #drawLinks(chart) {
    const { ctx } = chart;
    ctx.lineWidth = devicePixelRatio;
    for (const retraining of this.columns.retrainings) {
      const x = chart.valToPos(retraining.requested_at_ms / 1000, "x", true);
      ctx.strokeStyle = colours[retraining.result === "promoted" ? "--good" : "--muted"];
      ctx.globalAlpha = 0.6;
      ctx.beginPath();
      ctx.moveTo(x, laneY(chart, retraining.alarms.length > 0 ? 0 : 1));
      ctx.lineTo(x, retraining.result === "promoted" ? laneY(chart, 2) - bandHeight(chart) / 2 : laneY(chart, 1));
      ctx.stroke();
    }
    ctx.globalAlpha = 1;
  }

  #drawVersions(chart) {
    const { ctx } = chart;
    const height = bandHeight(chart);
    const top = laneY(chart, 2) - height / 2;
    const end = chart.valToPos(Math.max(this.nowSeconds, this.columns.seconds.at(-1) ?? 0), "x", true);
    const { promotions } = this.columns;
    promotions.forEach((promotion, index) => {
      const from = chart.valToPos(promotion.effective_from_ms / 1000, "x", true);
      const next = promotions[index + 1];
      const to = next ? chart.valToPos(next.effective_from_ms / 1000, "x", true) : Math.max(end, from + 2);
      ctx.fillStyle = colours["--band"];
      ctx.fillRect(from, top, Math.max(1, to - from), height);
      ctx.fillStyle = colours["--good"];
      ctx.fillRect(from, top, 2 * devicePixelRatio, height);
      label(chart, `v${promotion.version}`, Math.max(from, chart.bbox.left), to, top + height / 2);
    });
  }
}

// Every mark of the lanes, in event time.
export function marks(columns) {
  return [
    ...columns.alarms.map((item) => ({ lane: 0, ms: item.detected_at_ms, kind: "alarm", item })),
    ...columns.retrainings.map((item) => ({ lane: 1, ms: item.requested_at_ms, kind: "retraining", item })),
    ...columns.promotions.map((item) => ({ lane: 2, ms: item.effective_from_ms, kind: "promotion", item })),
  ].sort((a, b) => a.ms - b.ms || a.lane - b.lane);
}

function axisFont() {
  return `400 ${narrow() ? 11 : 12}px "Plex", system-ui, sans-serif`;
}

function narrow() {
  return innerWidth < NARROW_PIXELS;
}

// The dot on a line at the cursor, for lines in the legend only.
function cursorPoint(name) {
  const dot = document.createElement("div");
  dot.className = "cursor-dot";
  dot.style.setProperty("--tint", `var(${name})`);
  return dot;
}

function line(name, width, extra = {}) {
  return { stroke: () => colours[name], width, points: { show: lonely }, spanGaps: false, ...extra };
}

// A line of one point is invisible, so such a series gets a dot.
function lonely(chart, series) {
  return chart.data[series].filter((value) => value !== null).length === 1;
}

function padded(low, high) {
  if (low === null || high === null || low === undefined) return [0.3, 0.7];
  const margin = Math.max(0.01, (high - low) * 0.08);
  return [low - margin, high + margin];
}

function around(low, high) {
  if (low === null || low === undefined) return [0, 1];
  const margin = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  return [low - margin, high + margin];
}

function aroundZero(low, high) {
  const [from, to] = [Math.min(0, low ?? 0), Math.max(0, high ?? 0)];
  const margin = (to - from) * 0.08 || 1;
  return [from < 0 ? from - margin : 0, to > 0 ? to + margin : 0];
}

function visibleCount(seconds, [from, to]) {
  return seconds.filter((at) => at >= from && at <= to).length;
}

function laneY(chart, lane) {
  return chart.bbox.top + (chart.bbox.height * (lane + 0.5)) / LANES.length;
}

function bandHeight(chart) {
  return (chart.bbox.height / LANES.length) * 0.52;
}

function vertical(chart, seconds) {
  const { ctx, bbox } = chart;
  const x = Math.round(chart.valToPos(seconds, "x", true));
  if (x < bbox.left || x > bbox.left + bbox.width) return;
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
}

function clipped(chart, draw, margin = 0) {
  const { ctx, bbox } = chart;
  const extra = margin * devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left - extra, bbox.top, bbox.width + 2 * extra, bbox.height);
  ctx.clip();
  draw();
  ctx.restore();
}

function polyline(chart, seconds, values) {
  const { ctx } = chart;
  let pen = false;
  ctx.beginPath();
  seconds.forEach((at, index) => {
    const value = values[index];
    if (value === null || value === undefined) {
      pen = false;
      return;
    }
    const [x, y] = [chart.valToPos(at, "x", true), chart.valToPos(value, "y", true)];
    if (pen) ctx.lineTo(x, y);
    else ctx.moveTo(x, y);
    pen = true;
  });
}

// Fill from `lower` up to combine(upper, lower), run by run without gaps.
function between(chart, seconds, upper, lower, combine) {
  const { ctx } = chart;
  let run = [];
  const flush = () => {
    if (run.length > 1) {
      ctx.beginPath();
      for (const [x, y] of run) ctx.lineTo(x, y);
      for (const [x, , base] of run.toReversed()) ctx.lineTo(x, base);
      ctx.fill();
    }
    run = [];
  };
  const place = (at, high, low) => run.push([chart.valToPos(at, "x", true), chart.valToPos(high, "y", true), chart.valToPos(low, "y", true)]);
  seconds.forEach((at, index) => {
    const [high, low] = [upper[index], lower[index]];
    if (high === null || low === null || high === undefined || low === undefined) return flush();
    const [highBefore, lowBefore] = [upper[index - 1], lower[index - 1]];
    if (run.length && (high - low) * (highBefore - lowBefore) < 0) {
      // Where the lines cross, so that the filled edge follows the line itself.
      const share = (highBefore - lowBefore) / (highBefore - lowBefore - (high - low));
      const cross = lowBefore + (low - lowBefore) * share;
      place(seconds[index - 1] + (at - seconds[index - 1]) * share, cross, cross);
    }
    place(at, combine(high, low), low);
  });
  flush();
}

const ALARM_SHAPES = {
  feature: (ctx, x, y, r) => { ctx.moveTo(x, y - r); ctx.lineTo(x + r, y + r * 0.8); ctx.lineTo(x - r, y + r * 0.8); },
  category: (ctx, x, y, r) => { ctx.moveTo(x, y - r); ctx.lineTo(x + r, y); ctx.lineTo(x, y + r); ctx.lineTo(x - r, y); },
  loss: (ctx, x, y, r) => ctx.rect(x - r * 0.8, y - r * 0.8, r * 1.6, r * 1.6),
  score: (ctx, x, y, r) => ctx.arc(x, y, r * 0.9, 0, 7),
};

// A shape where an alarm began, hollow once it was resolved, and a line for the time in which it was active.
function drawAlarm(chart, alarm, lastMs) {
  const { ctx } = chart;
  const y = laneY(chart, 0);
  const [x, end] = [alarm.detected_at_ms, alarm.ended_ms ?? lastMs].map((ms) => chart.valToPos(ms / 1000, "x", true));
  ctx.fillStyle = ctx.strokeStyle = colours["--alarm"];
  ctx.globalAlpha = 0.3;
  ctx.fillRect(x, y - devicePixelRatio, end - x, 2 * devicePixelRatio);
  ctx.globalAlpha = 0.85;
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  (ALARM_SHAPES[alarm.kind] ?? ALARM_SHAPES.feature)(ctx, x, y, 4.5 * devicePixelRatio);
  ctx.closePath();
  if (alarm.ended_ms === null) ctx.fill();
  else ctx.stroke();
  ctx.globalAlpha = 1;
}

function drawRetraining(chart, retraining) {
  const { ctx } = chart;
  const unit = devicePixelRatio;
  const [x, y] = [chart.valToPos(retraining.requested_at_ms / 1000, "x", true), laneY(chart, 1)];
  const { result } = retraining;
  ctx.lineWidth = 1.75 * unit;
  ctx.strokeStyle = colours[result === "promoted" ? "--good" : result === "failed" ? "--alarm" : "--ink"];
  ctx.fillStyle = result === "promoted" ? colours["--good"] : colours["--paper"];
  ctx.beginPath();
  ctx.arc(x, y, 5.5 * unit, 0, 7);
  ctx.fill();
  if (result === null) ctx.setLineDash([2 * unit, 2 * unit]);
  ctx.stroke();
  ctx.setLineDash([]);
  if (result !== "rejected" && result !== "failed") return;
  const arm = 2.4 * unit;
  ctx.beginPath();
  ctx.moveTo(x - arm, y - arm);
  ctx.lineTo(x + arm, y + arm);
  ctx.moveTo(x + arm, y - arm);
  ctx.lineTo(x - arm, y + arm);
  ctx.stroke();
}

function label(chart, text, from, to, middle) {
  const { ctx } = chart;
  ctx.font = `600 ${12 * devicePixelRatio}px "Plex", system-ui, sans-serif`;
  const room = to - from - 6 * devicePixelRatio;
  if (ctx.measureText(text).width > room) return;
  ctx.fillStyle = colours["--band-text"];
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  ctx.fillText(text, from + 6 * devicePixelRatio, middle + devicePixelRatio);
}
