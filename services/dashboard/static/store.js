// The page's data: the server's documents, merged by id, and the columns that the charts draw.

export const SCORE = "@score";
export const SMOOTHED_WINDOWS = 7;
const RETRAINED_MS = 30 * 86_400_000; // a retrained model is shown first unless it is older than another model by more than this

const KEYS = {
  windows: (item) => item.window_id,
  cohorts: (item) => item.cohort_id,
  alarms: (item) => item.alarm_id,
  retrainings: (item) => item.request_id,
  promotions: (item) => `${item.arm}:${item.version}:${item.effective_from_ms}`,
  references: (item) => item.version,
};
const TIMES = {
  windows: (item) => item.end_ms,
  cohorts: (item) => item.end_ms,
  alarms: (item) => item.detected_at_ms,
  retrainings: (item) => item.requested_at_ms,
  promotions: (item) => item.effective_from_ms,
  references: (item) => item.version,
};

class Model {
  constructor() {
    this.features = [];
    this.featuresOmitted = 0;
    this.arms = [];
    this.items = Object.fromEntries(Object.keys(KEYS).map((name) => [name, new Map()]));
    this.columns = null;
  }

  merge(changes, bounds) {
    this.features = changes.features;
    this.featuresOmitted = changes.features_omitted;
    this.arms = changes.arms;
    for (const name of Object.keys(KEYS)) {
      for (const item of changes[name]) this.items[name].set(KEYS[name](item), item);
      this.#trim(name, bounds[name]);
    }
    this.columns = null;
  }

  // The same bound as on the server; older items are dropped.
  #trim(name, limit) {
    const items = this.items[name];
    if (items.size <= limit) return;
    for (const item of this.sorted(name).slice(0, items.size - limit)) items.delete(KEYS[name](item));
  }

  sorted(name) {
    return [...this.items[name].values()].sort((a, b) => TIMES[name](a) - TIMES[name](b));
  }

  derive() {
    this.columns ??= columns(this);
    return this.columns;
  }
}

export class Store {
  constructor() {
    this.models = new Map();
    this.declared = {};
    this.bounds = null;
    this.pulse = null;
  }

  snapshot(document) {
    this.models = new Map();
    this.declared = document.declared;
    this.bounds = document.bounds;
    this.pulse = document.pulse;
    this.delta(document);
  }

  delta(document) {
    for (const [name, changes] of Object.entries(document.models)) {
      if (!this.models.has(name)) this.models.set(name, new Model());
      this.models.get(name).merge(changes, this.bounds);
    }
  }

  names() {
    return [...new Set([...Object.keys(this.declared), ...this.models.keys()])].sort();
  }

  // The model whose event time is the latest: the one that is alive. One that learns online comes after those
  // that are retrained, so that two models of the same requests do not take turns.
  liveliest() {
    let best = this.names()[0] ?? null;
    let highest = -1;
    for (const name of this.names()) {
      const end = this.model(name).derive().windows.at(-1)?.end_ms ?? -1;
      const rank = end + (this.declared[name]?.learns || end < 0 ? 0 : RETRAINED_MS);
      if (rank > highest) [best, highest] = [name, rank];
    }
    return best;
  }

  model(name) {
    return this.models.get(name) ?? new Model();
  }
}

function columns(model) {
  const windows = model.sorted("windows");
  const promotions = model.sorted("promotions");
  const frozenArm = promotions.find((item) => item.shadow)?.arm ?? Object.keys(windows.at(-1)?.shadow_log_loss ?? {})[0] ?? "frozen";
  const labels = windows.map((window) => window.labels);
  const live = windows.map((window) => window.log_loss ?? window.absolute_error);
  const isRegression = windows.some((window) => window.absolute_error !== null);
  const active = model.sorted("alarms").filter((alarm) => alarm.ended_ms === null);
  const cohorts = cohortsOf(model.sorted("cohorts"), windows);
  const asked = windows.map((window) => window.predictions);
  const frozen = windows.map((window) => window.shadow_log_loss[frozenArm] ?? null);
  return {
    windows,
    alarms: model.sorted("alarms"),
    active,
    activeTotal: Math.max(active.length, windows.at(-1)?.alarms_active ?? 0), // the oldest alarms may not be kept any more
    retrainings: model.sorted("retrainings"),
    promotions: promotions.filter((item) => !item.shadow),
    shadows: promotions.filter((item) => item.shadow),
    frozenArm,
    seconds: windows.map((window) => window.end_ms / 1000),
    features: drift(model.features, windows, model.items.references),
    live,
    frozen,
    liveSmooth: smooth(live, labels),
    cohorts,
    estimatedSmooth: smooth(cohorts.map((cohort) => cohort?.estimated ?? null), asked),
    isRegression,
    loss: isRegression ? "Absolute error" : "Log loss",
    frozenSmooth: smooth(frozen, labels),
    reference: windows.map((window) => window.reference_loss),
    sample: windows.at(-1)?.sample ?? 1,
    coverage: windows.map((window) => (window.predictions > 0 ? window.labels / window.predictions : null)),
  };
}

// The cohort of each window; if two champions answered in one window, the later one's.
function cohortsOf(cohorts, windows) {
  const byStart = new Map(cohorts.map((cohort) => [cohort.start_ms, cohort]));
  return windows.map((window) => byStart.get(window.start_ms) ?? null);
}

function drift(names, windows, references) {
  const features = new Map();
  const known = (window) => references.get(window.version) ?? { values: [], score_values: null };
  const column = (field, index) => windows.map((window) => window[field][index] ?? null);
  names.forEach((name, index) => {
    features.set(name, {
      name,
      label: name,
      psi: column("psi", index),
      threshold: column("threshold", index),
      statistic: column("statistic", index),
      evidence: column("evidence", index),
      missing: column("missing_share", index),
      drifted: windows.map((window) => window.drifted.includes(index)),
      ...values(windows.map((window) => window.values[index]), windows.map((window) => known(window).values[index])),
    });
  });
  if (windows.some((window) => window.score_psi !== null)) {
    const none = windows.map(() => null);
    features.set(SCORE, {
      name: SCORE,
      label: "Model score",
      psi: windows.map((window) => window.score_psi),
      // Records of older versions contain no threshold for the score: the features' threshold is shown.
      threshold: windows.map((window) => window.score_threshold ?? window.threshold.find((value) => value !== null) ?? null),
      statistic: none,
      evidence: none,
      missing: none,
      drifted: windows.map((window) => window.score_drifted),
      ...values(windows.map((window) => window.score_values), windows.map((window) => known(window).score_values)),
    });
  }
  return features;
}

// Mean, and quantiles at 5, 50 and 95 %, by window, and those of the reference; null for categories.
function values(found, references) {
  const column = (rows, at) => rows.map((row) => row?.[at] ?? null);
  if (!found.some(Boolean)) return { values: null };
  const [[mean, low, median, high], [, expectedLow, expected, expectedHigh]] = [found, references].map((rows) => [0, 1, 2, 3].map((at) => column(rows, at)));
  return { values: { mean, low, median, high, expectedLow, expected, expectedHigh } };
}

// The mean over the latest windows, weighted by their labels: the mean loss of all their labels.
export function smooth(values, weights, count = SMOOTHED_WINDOWS) {
  return values.map((value, index) => {
    if (value === null) return null;
    let [sum, weight] = [0, 0];
    for (let at = Math.max(0, index - count + 1); at <= index; at += 1) {
      if (values[at] === null) continue;
      sum += values[at] * weights[at];
      weight += weights[at];
    }
    return weight > 0 ? sum / weight : null;
  });
}

export function lastKnown(values, until = values.length - 1) {
  for (let index = until; index >= 0; index -= 1) if (values[index] !== null && values[index] !== undefined) return index;
  return -1;
}
