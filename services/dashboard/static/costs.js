// The declared cost of predictions by window, and what it adds up to against the reference.

import * as format from "./format.js";
import { smooth } from "./store.js";

// All that the panel shows: null if no costs are declared. Only windows whose labels are mature count.
export function costs({ cohorts }) {
  const mature = cohorts.map((cohort) => (cohort && cohort.state !== "provisional" && cohort.cost !== null ? cohort : null));
  const last = mature.findLast(Boolean);
  if (!last) return null;
  const mean = mature.map((cohort) => cohort?.cost ?? null);
  const labels = mature.map((cohort) => cohort?.labels ?? 0);
  return {
    unit: last.unit,
    mean,
    meanSmooth: smooth(mean, labels),
    reference: mature.map((cohort) => cohort?.cost_reference ?? null),
    before: mature.map((cohort) => cohort?.cost_before ?? null),
    total: running(mature, (cohort) => cohort.cost * cohort.labels),
    saved: mature.some((cohort) => cohort && cohort.cost_reference !== null) ? running(mature, saved) : mean.map(() => null),
    at: mature.map((cohort) => (cohort ? cohort.start_ms : null)).find((ms) => ms !== null),
  };
}

function saved(cohort) {
  return cohort.cost_reference === null ? 0 : (cohort.cost_reference - cohort.cost) * cohort.labels;
}

function running(cohorts, value) {
  let sum = 0;
  return cohorts.map((cohort) => (cohort === null ? null : (sum += value(cohort))));
}

// A sum of money or minutes, short enough for a legend.
export function amount(value) {
  if (value === 0) return "0";
  return Math.abs(value ?? 0) >= 1000 ? format.integer(value).replace("-", "−") : format.decimal(value, 2);
}
