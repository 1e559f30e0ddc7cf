// The table behind each chart, newest first, for the range in view.

import { amount } from "./costs.js";
import * as format from "./format.js";
import { describe } from "./panels.js";
import { marks } from "./plots.js";

const ROWS_MAX = 400;

const TABLES = {
  drift: {
    caption: "Drift by window",
    head: ({ columns, selected, values }) => ["Window ending (UTC)", "Version", ...selected.map((name) => columns.features.get(name).label), "Threshold", "Highest of all", "PSI", "Drifted", ...(values ? ["Median", "Mean", "5 %", "95 %"] : [])],
    rows: ({ columns, selected, values }) => columns.windows.map((window, at) => ({ ms: window.end_ms, cells: () => [...driftCells(columns, selected, window, at), ...valueCells(values, at)] })),
  },
  events: {
    caption: "Alarms, retrainings and promotions",
    head: () => ["Event time (UTC)", "What", "Details"],
    rows: ({ columns }) => marks(columns).map((mark) => ({ ms: mark.ms, cells: () => describe(mark) })),
  },
  decisions: {
    caption: "Precision and recall, sums of 7 windows",
    head: ({ decisions }) => ["Window ending (UTC)", "Version", "Precision", "Recall", "F1", ...(decisions?.thresholds.length ? ["True positives", "False positives", "False negatives", "True negatives"] : [])],
    rows: ({ columns, decisions }) => columns.windows.map((window, at) => ({ ms: window.end_ms, cells: () => decisionCells(decisions, window, at) })),
  },
  costs: {
    caption: "Cost",
    head: ({ costs }) => ["Window ending (UTC)", "Version", `Per prediction (${costs?.unit ?? ""})`, "7 windows", "Reference", "Previous champion", "Total so far", "Saved so far"],
    rows: ({ columns, costs }) => columns.windows.map((window, at) => ({ ms: window.end_ms, cells: () => costCells(costs, window, at) })),
  },
  performance: {
    caption: "Performance and coverage by window",
    head: ({ columns }) => ["Window ending (UTC)", "Version", "Live, 7 windows", `${columns.frozenArm}, 7 windows`, "Live", columns.frozenArm, "Reference", "Estimated", "Accuracy", "Labels", "Predictions", "Coverage"],
    rows: ({ columns }) => columns.windows.map((window, at) => ({ ms: window.end_ms, cells: () => performanceCells(columns, window, at) })),
  },
};

function driftCells(columns, selected, window, at) {
  const first = columns.features.get(selected[0]);
  let highest = null;
  for (const feature of columns.features.values()) {
    if (feature.psi[at] !== null && (highest === null || feature.psi[at] > highest.psi[at])) highest = feature;
  }
  return [
    version(window),
    ...selected.map((name) => format.psi(columns.features.get(name).psi[at])),
    format.psi(first?.threshold[at]),
    highest?.label ?? format.NONE,
    format.psi(highest?.psi[at]),
    format.integer(window.drifted.length),
  ];
}

function valueCells(values, at) {
  return values ? ["median", "mean", "low", "high"].map((name) => format.significant(values[name][at])) : [];
}

function decisionCells(decisions, window, at) {
  if (!decisions) return [version(window)];
  const counts = (matrix) => (matrix ? [matrix[1][1], matrix[0][1], matrix[1][0], matrix[0][0]] : [null, null, null, null]);
  return [
    version(window),
    ...["precision", "recall", "f1"].map((name) => format.percent(decisions[name][at], 1)),
    ...(decisions.thresholds.length ? counts(decisions.matrices[at]).map(format.integer) : []),
  ];
}

function costCells(costs, window, at) {
  if (!costs) return [version(window)];
  const means = ["mean", "meanSmooth", "reference", "before"].map((name) => format.decimal(costs[name][at]));
  return [version(window), ...means, amount(costs.total[at]), amount(costs.saved[at])];
}

function performanceCells(columns, window, at) {
  return [
    version(window),
    format.decimal(columns.liveSmooth[at]),
    format.decimal(columns.frozenSmooth[at]),
    format.decimal(columns.live[at]),
    format.decimal(columns.frozen[at]),
    format.decimal(columns.reference[at]),
    format.decimal(columns.cohorts[at]?.estimated ?? null),
    format.percent(window.accuracy, 1),
    format.integer(window.labels),
    format.integer(window.predictions),
    format.percent(columns.coverage[at]),
  ];
}

const version = (window) => (window.version ? `v${window.version}` : format.NONE);

export function renderTable(host, name, view) {
  const { caption, head, rows } = TABLES[name];
  const [from, to] = view.range;
  const inside = rows(view).filter(({ ms }) => ms / 1000 >= from && ms / 1000 <= to).reverse();
  const shown = inside.slice(0, ROWS_MAX);
  const table = document.createElement("table");
  table.createCaption().textContent = `${caption}, newest first${inside.length > shown.length ? ` (${ROWS_MAX} of ${inside.length} in view)` : ""}`;
  const header = table.createTHead().insertRow();
  for (const text of head(view)) header.append(cell("th", text, "col"));
  const body = table.createTBody();
  for (const { ms, cells } of shown) {
    const row = body.insertRow();
    row.append(cell("th", `${format.date(ms)} ${format.clock(ms)}`, "row"));
    for (const text of cells()) row.append(cell("td", text));
  }
  const scroll = host.scrollTop;
  host.replaceChildren(table);
  host.scrollTop = scroll;
}

function cell(tag, text, scope) {
  const element = document.createElement(tag);
  if (scope) element.scope = scope;
  element.textContent = text;
  return element;
}
