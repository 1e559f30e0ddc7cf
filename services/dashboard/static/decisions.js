// Precision, recall and F1 from the counts of cohorts, at any threshold of their grid. Counts of windows are added.

import * as format from "./format.js";
import { SMOOTHED_WINDOWS } from "./store.js";

const NAMES = ["precision", "recall", "f1"];
const $ = (id) => document.getElementById(id);
const share = (part, whole) => (whole > 0 ? part / whole : null);
const sum = (values) => values.reduce((total, value) => total + value, 0);

// The figures of one class against all others, from [[true negatives, false positives], [false negatives, true positives]].
function figures([[, wrong], [missed, right]]) {
  return { precision: share(right, right + wrong), recall: share(right, right + missed), f1: share(2 * right, 2 * right + wrong + missed) };
}

// One class of a larger matrix, whose rows are labels and columns predicted classes.
function classOf(matrix, at) {
  const right = matrix[at][at];
  const [missed, wrong] = [sum(matrix[at]) - right, sum(matrix.map((row) => row[at])) - right];
  return [[sum(matrix.flat()) - right - missed - wrong, wrong], [missed, right]];
}

function macro(matrix) {
  const seen = matrix.map((_, at) => figures(classOf(matrix, at))).filter((each) => each.f1 !== null);
  return Object.fromEntries(NAMES.map((name) => [name, share(sum(seen.map((each) => each[name] ?? 0)), seen.length)]));
}

// The matrix of a cohort at a threshold, or that of its classes; null if it was not counted.
function matrixOf(cohort, threshold) {
  if (cohort.confusion.length) return cohort.confusion;
  const at = cohort.thresholds.indexOf(threshold);
  if (at < 0) return null;
  const split = (counts) => [sum(counts.slice(0, at + 1)), sum(counts.slice(at + 1))];
  return [split(cohort.negatives), split(cohort.positives)];
}

function added(a, b) {
  return a.map((row, i) => row.map((count, j) => count + b[i][j]));
}

// The sum over the latest windows whose labels are mature; null unless those of the last one are.
function pooled(matrices) {
  return matrices.map((matrix, at) => {
    if (!matrix) return null;
    const near = matrices.slice(Math.max(0, at - SMOOTHED_WINDOWS + 1), at + 1);
    return near.filter((each) => each?.length === matrix.length).reduce(added);
  });
}

// All that the panel shows: null without any figures.
export function decisions({ cohorts }, chosen) {
  const mature = cohorts.map((cohort) => (cohort && cohort.state !== "provisional" ? cohort : null));
  const last = mature.findLast((cohort) => cohort && cohort.f1 !== null);
  if (!last) return null;
  const { thresholds, classes } = last;
  const threshold = thresholds.length ? nearest(thresholds, chosen ?? last.threshold) : null;
  const matrices = pooled(mature.map((cohort) => cohort && matrixOf(cohort, threshold)));
  const isCounted = thresholds.length > 0 || classes.length > 0;
  const of = thresholds.length ? figures : macro;
  const rows = isCounted ? matrices.map((matrix) => matrix && of(matrix)) : mature;
  return {
    thresholds,
    threshold,
    declared: last.threshold,
    names: classes.length ? classes : ["0", "1"],
    matrices: isCounted ? matrices : [],
    ...Object.fromEntries(NAMES.map((name) => [name, rows.map((row) => row?.[name] ?? null)])),
  };
}

function nearest(thresholds, value) {
  return thresholds.reduce((best, each) => (Math.abs(each - value) < Math.abs(best - value) ? each : best));
}

export function drawControl(view) {
  $("threshold-control").hidden = !view.thresholds.length;
  if (!view.thresholds.length) return;
  const [slider, at] = [$("threshold"), view.thresholds.indexOf(view.threshold)];
  slider.max = String(view.thresholds.length - 1);
  slider.value = String(at);
  const text = view.threshold === view.declared ? `${view.threshold}, as declared` : `${view.threshold} (declared: ${view.declared})`;
  slider.setAttribute("aria-valuetext", text);
  $("threshold-text").textContent = text;
  $("threshold-declared").hidden = view.threshold === view.declared;
}

// The matrix at a window, or the latest one, with a sentence for a binary model.
export function drawMatrix(view, index) {
  const at = index ?? view.matrices.findLastIndex(Boolean);
  const matrix = view.matrices[at] ?? null;
  $("matrix").hidden = !matrix;
  $("matrix-text").textContent = matrix && view.thresholds.length ? sentence(matrix) : "";
  if (!matrix) return;
  const body = [["Label", ...view.names.map((name) => `predicted ${name}`)], ...matrix.map((row, i) => [view.names[i], ...row.map((count) => format.integer(count))])];
  const largest = Math.max(1, ...matrix.flat());
  const rows = body.map((cells, i) => {
    const row = document.createElement("tr");
    cells.forEach((text, j) => {
      const cell = document.createElement(i && j ? "td" : "th");
      if (!i || !j) cell.scope = i ? "row" : "col";
      cell.textContent = text;
      if (i && j) {
        cell.className = i === j ? "is-right" : "is-wrong";
        cell.style.setProperty("--part", `${Math.round((100 * matrix[i - 1][j - 1]) / largest)}%`);
      }
      row.append(cell);
    });
    return row;
  });
  $("matrix").querySelector("tbody").replaceChildren(...rows);
}

function sentence([[, wrong], [missed, right]]) {
  const [found, all] = [right + wrong, right + missed];
  const first = found ? `Of ${format.integer(found)} predictions of 1, ${format.integer(right)} were right.` : "Nothing was predicted as 1.";
  const second = all ? ` Of ${format.integer(all)} labels of 1, ${format.integer(missed)} were missed.` : " No label was 1.";
  return first + second;
}
