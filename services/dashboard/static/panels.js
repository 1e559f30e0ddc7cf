// All text of the page: strip, notices, summary, legends, label account. It is inserted as text, never as markup.

import { amount } from "./costs.js";
import * as format from "./format.js";
import { tint } from "./plots.js";
import { lastKnown, SCORE } from "./store.js";

const $ = (id) => document.getElementById(id);
const DRIFT_WHAT = "Population stability index against the champion’s training data, by window";
const NO_REFERENCE = "No reference: the champion was registered without one, so features, scores and relations are not watched";
const RARE_SHARE = 0.1; // of positive labels, below which accuracy says little
const YEAR_MS = 366 * format.DAY_MS;

function put(id, text) {
  const element = typeof id === "string" ? $(id) : id;
  if (element.textContent !== text) element.textContent = text;
}

// The event time of the newest answered request or of the newest window, the later of the two.
export function eventNow(pulse, name, columns) {
  return Math.max(pulse?.scoring.models[name]?.event_time_ms ?? 0, columns.windows.at(-1)?.end_ms ?? 0);
}

export function models(names, chosen) {
  const [select, text] = [$("model"), $("model-name")];
  select.hidden = names.length < 2;
  text.hidden = !select.hidden;
  put(text, chosen ?? "none yet");
  if (select.hidden) return;
  const all = names.includes(chosen) ? names : [...names, chosen];
  if (all.join() !== [...select.options].map((option) => option.value).join()) select.replaceChildren(...all.map((name) => new Option(name, name)));
  select.value = chosen;
}

export function strip(view) {
  const { columns, pulse, name } = view;
  const scored = pulse?.scoring.models[name];
  put("model-note", columns.windows.length ? `${format.integer(columns.windows.length)} windows, ${columns.features.size} series` : "waiting for a report");
  versions(view);
  const rate = scored?.rate_per_second;
  put("rate", rate === null || rate === undefined ? format.NONE : `${format.integer(rate)}/s`);
  put("rate-note", scored ? `${format.integer(scored.predictions_total)} in total` : scoringNote(pulse));
  drawRate(scored?.rate_history ?? []);
  const quick = [scored?.p50_seconds, scored?.p99_seconds].map((seconds) => format.milliseconds(seconds ?? null));
  put("latency", scored?.p50_seconds == null ? format.NONE : quick.join(" / "));
  put("latency-note", scored ? (scored.p50_seconds == null ? "no requests for 30 s" : "ms, over the last 30 s") : scoringNote(pulse));
  put("lag", format.integer(pulse?.scoring.lag_records));
  put("lag-note", pulse?.scoring.status === "up" ? "requests not yet read" : scoringNote(pulse));
  const now = view.nowMs || null;
  put("event-date", format.date(now));
  put("event-clock", now ? `${format.clock(now)} UTC${ago(now, pulse)}` : "UTC");
  retrained(columns);
  activeAlarms(columns);
  processes(pulse);
}

function activeAlarms({ active, activeTotal, windows }) {
  put("alarms", windows.length || activeTotal ? format.integer(activeTotal) : format.NONE);
  const first = Math.min(...active.map((alarm) => alarm.since_ms));
  put("alarms-note", active.length ? `the longest since ${format.date(first)}` : activeTotal ? "no longer in the list" : "none active");
  $("alarms").classList.toggle("is-bad", activeTotal > 0);
}

function versions({ columns, nowMs }) {
  const begun = columns.promotions.filter((promotion) => promotion.effective_from_ms <= nowMs);
  const [live, next] = [begun.at(-1), columns.promotions[begun.length]];
  const reported = columns.windows.at(-1)?.version ?? 0;
  put("live-version", live ? `v${live.version}` : reported ? `v${reported}` : format.NONE);
  const since = live ? (live.effective_from_ms ? `since ${format.date(live.effective_from_ms)}` : "since the start") : "no model yet";
  put("live-note", next ? `v${next.version} from ${format.day(next.effective_from_ms)} ${format.clock(next.effective_from_ms)}` : since);
  const shadow = columns.shadows.at(-1);
  put("frozen-version", shadow ? `v${shadow.version}` : format.NONE);
  put("frozen-note", shadow ? "shadow, for comparison" : "no shadow");
}

function scoringNote(pulse) {
  return pulse?.scoring.status === "down" ? "scoring does not answer" : pulse?.scoring.status === "up" ? "nothing scored yet" : "not known yet";
}

function ago(ms, pulse) {
  const years = ((pulse?.wall_time_ms ?? ms) - ms) / YEAR_MS;
  return years >= 1 ? `, ${Math.floor(years)} ${years < 2 ? "year" : "years"} ago` : "";
}

function drawRate(history) {
  const top = Math.max(1, ...history);
  const from = 90 - history.length;
  const points = history.map((rate, at) => `${from + at} ${(19 - 18 * (rate / top)).toFixed(1)}`);
  $("rate-spark").firstElementChild.setAttribute("d", points.length > 1 ? `M${points.join("L")}` : "");
}

function retrained(columns) {
  const last = columns.retrainings.at(-1);
  put("retrained", last ? format.date(last.requested_at_ms) : format.NONE);
  put("performance-what", `${columns.loss} as labels arrive: mean of 7 windows; thin lines show single windows`);
  put("retrained-note", last ? `${outcome(last)}, by ${last.trigger}` : "none yet");
}

function outcome(retraining) {
  if (retraining.result === null) return "running";
  return retraining.version ? `v${retraining.version} ${retraining.result}` : retraining.result;
}

function processes(pulse) {
  const kafka = { connecting: "Kafka connecting", reading: "reading Kafka", live: "Kafka up", lost: "Kafka lost" }[pulse?.kafka.status ?? "connecting"];
  const scoring = { unknown: "scoring unknown", up: "scoring up", down: "scoring down" }[pulse?.scoring.status ?? "unknown"];
  const isUp = pulse?.kafka.status === "live" && pulse.scoring.status === "up";
  const waiting = Object.values(pulse?.scoring.waiting ?? {}).reduce((sum, count) => sum + count, 0);
  const well = isUp && !waiting;
  put("processes", well ? "All up" : isUp ? "Requests wait" : pulse ? "Degraded" : format.NONE);
  put("processes-note", waiting ? `${format.integer(waiting)} wait for features that are late` : `${kafka}, ${scoring}`);
  $("processes").classList.toggle("is-bad", Boolean(pulse) && !well);
}

export function link(connection, pulse, paused) {
  const status = connection.status === "open" ? (pulse?.kafka.status === "lost" ? "stale" : paused ? "paused" : "open") : connection.status;
  $("link").dataset.status = status;
  const text = { open: "Live", paused: "Paused", stale: "Kafka lost", lost: "Disconnected", connecting: "Connecting" }[status];
  put("link-text", text);
}

export function notice(view, store, empty) {
  const element = $("notice");
  const text = noticeText(view, store, empty);
  element.hidden = !text;
  document.body.classList.toggle("is-stale", view.connection.status === "lost");
  put(element, text ?? "");
}

function noticeText({ connection, pulse, name }, store, empty) {
  if (connection.status === "lost") {
    const heard = connection.heardMs ? ` The page shows the state of ${new Date(connection.heardMs).toISOString().slice(11, 19)} UTC.` : "";
    return `The dashboard process does not answer.${heard} The page reconnects automatically. If this message stays, start the process with “driftline dashboard”.`;
  }
  if (pulse?.kafka.status === "lost") {
    return `Kafka at ${pulse.kafka.broker} does not answer (${pulse.kafka.error}). The page shows what was read before. Reading continues automatically.`;
  }
  if (empty && name && store.models.size && !store.models.has(name)) return `The topics contain no record of the model ${name} yet.`;
  return null;
}

export function summary(element, view, empty) {
  if (empty) return put(element, emptyText(view));
  const { columns } = view;
  const at = lastKnown(columns.liveSmooth);
  const sentences = [activeText(columns), sampleText(columns)];
  if (at >= 0) {
    const [live, frozen] = [columns.liveSmooth[at], columns.frozenSmooth[at]];
    const gain = frozen === null ? null : frozen - live;
    const against = gain === null ? "" : Math.abs(gain) < 0.0005 ? `, the same as the frozen first model` : `, ${format.decimal(Math.abs(gain))} ${gain > 0 ? "better" : "worse"} than the frozen first model`;
    sentences.push(`${columns.loss} over the last 7 windows is ${format.decimal(live)}${against}.`);
  } else sentences.push("No model answers yet. Features and labels are being collected for the first training.");
  sentences.push(driftText(columns));
  put(element, sentences.filter(Boolean).join(" "));
}

function sampleText({ sample }) {
  return sample < 1 ? `All figures are of a sample of ${format.percent(sample, sample < 0.1 ? 1 : 0)} of the requests, by a hash of the id.` : "";
}

const ACTIVE_NAMED_MAX = 3;

// Which alarms are active, the latest first.
function activeText({ active, activeTotal }) {
  if (!activeTotal) return "No alarm is active.";
  const named = active.slice(-ACTIVE_NAMED_MAX).reverse().map((alarm) => `${alarm.subject} since ${format.date(alarm.since_ms)}`);
  const more = activeTotal - named.length;
  return `${activeTotal} ${activeTotal === 1 ? "alarm is" : "alarms are"} active: ${named.join(", ")}${more > 0 ? `${named.length ? ", and " : ""}${more} more` : ""}.`;
}

function driftText(columns) {
  const features = [...columns.features.values()];
  if (!features.length) return "";
  const last = columns.windows.length - 1;
  const compared = features.filter((feature) => lastKnown(feature.psi, last) === last);
  const left = features.length - compared.length;
  const rest = left ? ` ${left} ${left === 1 ? "is" : "are"} not compared: the reference does not have them, or not in this season.` : "";
  const over = features.filter((feature) => feature.drifted[last]);
  if (!compared.length) return "In the latest window no series is compared: it has no predictions, or a season that the reference does not have.";
  if (!over.length) return `In the latest window none of ${compared.length} compared series has drifted.${rest}`;
  const worst = over.reduce((a, b) => ((b.psi[last] ?? 0) > (a.psi[last] ?? 0) ? b : a));
  return `${over.length} of ${compared.length} series ${over.length === 1 ? "has" : "have"} drifted; the highest PSI is that of ${worst.label} with ${format.psi(worst.psi[last])}.${rest}`;
}

function emptyText({ connection, pulse, declared, name }) {
  if (connection.status !== "open") return "Connecting to the dashboard process.";
  if (pulse?.kafka.status === "connecting") return `Connecting to Kafka at ${pulse.kafka.broker}.`;
  const hours = declared ? ` A window closes every ${format.decimal(declared.window_hours, 0)} hours of event time.` : "";
  return `Waiting for the first window${name ? ` of ${name}` : ""}.${hours} The charts appear with the first report on the drift topic.`;
}

export function ranges(chosen, [from, to], empty) {
  for (const button of document.querySelectorAll("[data-range]")) {
    const on = chosen.from === undefined && (chosen.last ? String(chosen.last) : "all") === button.dataset.range;
    button.setAttribute("aria-pressed", String(on));
  }
  put("range-text", empty ? "" : `${format.date(from * 1000)} to ${format.date(to * 1000)}.`);
}

// The legend also shows values: those at the cursor, otherwise the latest.
function legend(element, time, entries) {
  const rows = [["", time, "legend-time"], ...entries];
  while (element.children.length > rows.length) element.lastElementChild.remove();
  rows.forEach(([name, value, kind, colour], position) => {
    const row = element.children[position] ?? element.appendChild(legendRow());
    row.className = kind;
    row.style.setProperty("--tint", colour ?? "transparent");
    put(row.querySelector(".legend-name"), name || "Window ending");
    put(row.querySelector("dd"), value);
  });
}

function legendRow() {
  const [row, term, swatch, name, value] = ["div", "dt", "span", "span", "dd"].map((tag) => document.createElement(tag));
  swatch.className = "legend-swatch";
  name.className = "legend-name";
  term.append(swatch, name);
  row.append(term, value);
  return row;
}

export function driftLegend(element, { columns, selected }, index) {
  put("drift-what", columns.windows.at(-1)?.has_reference === false ? NO_REFERENCE : columns.features.size ? DRIFT_WHAT : "Measured from the first model on; without a model there is no reference");
  put("features-what", columns.features.size ? "Select a feature to show it in the chart. Shift + click adds up to four features." : "Features appear with the first model.");
  const features = selected.map((name) => columns.features.get(name)).filter(Boolean);
  if (!columns.windows.length) return legend(element, format.NONE, []);
  const at = index ?? columns.windows.length - 1;
  const entries = features.map((feature, slot) => [feature.label, format.psi(feature.psi[at]), "", tint(slot)]);
  const first = features[0];
  if (first) {
    entries.push(["threshold", format.psi(first.threshold[at]), "is-dotted", "var(--alarm)"]);
    if (features.length === 1 && first.statistic[at] !== null) {
      entries.push(["distance", format.decimal(first.statistic[at], 2), "is-plain"], ["missing", format.percent(first.missing[at], 1), "is-plain"]);
    }
  }
  legend(element, format.moment(columns.windows[at].end_ms), entries);
}

// Accuracy says little where few labels are positive: precision and recall of the latest known windows are shown instead.
function correctness({ columns, decisions }, at) {
  const known = decisions?.names.length === 2 ? decisions.matrices.findLastIndex((matrix, slot) => matrix && slot <= at) : -1;
  if (known >= 0) {
    const [negatives, positives] = decisions.matrices[known].map(([left, right]) => left + right);
    if (positives < RARE_SHARE * (negatives + positives)) {
      return ["precision", "recall"].map((name) => [name, format.percent(decisions[name][known], 1), "is-plain"]);
    }
  }
  return [["accuracy", format.percent(columns.windows[at].accuracy, 1), "is-plain"]];
}

export function performanceLegend(element, { columns, harm, decisions }, index) {
  if (!columns.windows.length) return legend(element, format.NONE, []);
  const at = index ?? columns.windows.length - 1;
  const [live, frozen] = [columns.liveSmooth[at], columns.frozenSmooth[at]];
  const entries = [
    ["live", format.decimal(live), "", "var(--live)"],
    [columns.frozenArm, format.decimal(frozen), "", "var(--frozen)"],
    ["live minus " + columns.frozenArm, live === null || frozen === null ? format.NONE : format.signed(live - frozen), "is-plain"],
    ["in training", format.decimal(columns.reference[at]), "is-dashed", "var(--ink)"],
    ...(harm[at] === null ? [] : [["harm above", format.decimal(harm[at]), "is-dotted", "var(--alarm)"]]),
    ["estimated before labels", format.decimal(columns.estimatedSmooth[at]), "is-dotted", "var(--second)"],
    ...running(columns, at),
    ["this window", format.decimal(columns.live[at]), "is-plain"],
    ...correctness({ columns, decisions }, at),
    ["coverage", format.percent(columns.coverage[at]), "is-plain"],
  ];
  legend(element, format.moment(columns.windows[at].end_ms), entries);
}

export function decisionsLegend(element, { columns, decisions }, index) {
  if (!decisions) return;
  const at = index ?? decisions.f1.findLastIndex((value) => value !== null);
  const mean = decisions.thresholds.length ? "" : ", mean of classes";
  const entries = [
    ["precision" + mean, format.percent(decisions.precision[at], 1), "", "var(--second)"],
    ["recall" + mean, format.percent(decisions.recall[at], 1), "", "var(--third)"],
    ["F1" + mean, format.percent(decisions.f1[at], 1), "is-dashed", "var(--ink)"],
  ];
  legend(element, format.moment(columns.windows[at]?.end_ms), entries);
}

export function valuesLegend(element, { columns, values, selected }, index) {
  if (!values) return;
  const at = index ?? values.median.findLastIndex((value) => value !== null);
  put("values-what", `of ${columns.features.get(selected[0]).label} by window: 90 % of the values are within the band; dashed: training`);
  const text = (name) => format.significant(values[name][at]);
  legend(element, format.moment(columns.windows[at]?.end_ms), [
    ["median", text("median"), "", "var(--ink)"],
    ["mean", text("mean"), "", "var(--second)"],
    ["5 % to 95 %", `${text("low")} to ${text("high")}`, "is-plain"],
    ["median in training", text("expected"), "is-dashed", "var(--muted)"],
    ["5 % to 95 %", `${text("expectedLow")} to ${text("expectedHigh")}`, "is-plain"],
    ...(selected[0] === SCORE ? confidence(columns.windows[at]?.confidence) : []),
  ]);
}

function confidence(found) {
  if (!found) return [];
  const [mean, low, expectedMean, expectedLow] = found.map((share) => format.percent(share, 1));
  return [["mean confidence", `${mean} (training ${expectedMean})`, "is-plain"], ["confidence below 60 %", `${low} (training ${expectedLow})`, "is-plain"]];
}

export function costsLegend(element, { columns, costs }, index) {
  if (!costs) return;
  const at = index ?? costs.mean.findLastIndex((value) => value !== null);
  const known = costs.saved[at];
  put("costs-what", `${costs.unit} for each prediction, of windows whose labels are mature: mean of 7 windows; the thin line shows single windows`);
  put("saved-what", `${costs.unit} less than the reference predicts for the same number of predictions, since ${format.date(costs.at)}`);
  legend(element, format.moment(columns.windows[at]?.end_ms), [
    ["live", format.decimal(costs.meanSmooth[at]), "", "var(--live)"],
    ["reference", format.decimal(costs.reference[at]), "is-dashed", "var(--ink)"],
    ["previous champion", format.decimal(costs.before[at]), "is-dotted", "var(--second)"],
    ["this window", format.decimal(costs.mean[at]), "is-plain"],
    ["total", amount(costs.total[at]), "is-plain"],
    [known !== null && known < 0 ? "more than the reference" : "saved", amount(known === null ? null : Math.abs(known)), "is-plain"],
  ]);
}

// The running mean since the promotion with its interval, as known at a window.
function running({ cohorts }, at) {
  for (let place = at; place >= 0 && cohorts[place]?.version === cohorts[at]?.version; place -= 1) {
    const cohort = cohorts[place];
    if (!cohort || cohort.running === null) continue;
    return [["since promotion, 95 %", `${format.decimal(cohort.running_low)} to ${format.decimal(cohort.running_high)}`, "is-plain"]];
  }
  return [];
}

export function spoken(view, index, plot) {
  if (index === null) return "";
  const { columns } = view;
  const when = format.moment(columns.windows[index].end_ms);
  if (plot === "drift-plot") {
    return `${when}: ${view.selected.map((name) => `${columns.features.get(name).label} ${format.psi(columns.features.get(name).psi[index])}`).join(", ")}`;
  }
  if (plot === "coverage-plot") return `${when}: coverage ${format.percent(columns.coverage[index])}`;
  if (plot === "values-plot") return `${when}: median ${format.significant(view.values.median[index])}, mean ${format.significant(view.values.mean[index])}`;
  if (plot === "costs-plot") return `${when}: ${format.decimal(view.costs.meanSmooth[index])} ${view.costs.unit} for each prediction`;
  if (plot === "saved-plot") return `${when}: saved ${amount(view.costs.saved[index])} ${view.costs.unit}`;
  if (plot === "decisions-plot") return `${when}: precision ${format.percent(view.decisions.precision[index], 1)}, recall ${format.percent(view.decisions.recall[index], 1)}`;
  return `${when}: live ${format.decimal(columns.liveSmooth[index])}, ${columns.frozenArm} ${format.decimal(columns.frozenSmooth[index])}`;
}

const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

export function describe({ kind, item }) {
  if (kind === "alarm") return [`Alarm: ${item.subject}`, `${sentence(item.message)} Since ${format.moment(item.since_ms)}. ${item.ended_ms === null ? "Active." : `Resolved ${format.moment(item.ended_ms)}.`}`];
  if (kind === "promotion") return [`v${item.version} live`, `from this time on as ${item.arm}, with ${format.percent(item.weight / 10_000)} of the keys. ${sentence(item.reason)}`];
  const why = item.reasons.length ? ` ${item.reasons.join("; ")}.` : "";
  const loss = item.metrics.log_loss === undefined ? "" : ` Log loss ${format.decimal(item.metrics.log_loss)} on the holdout.`;
  const work = item.rows ? ` ${format.integer(item.rows)} rows in ${format.decimal(item.duration_seconds, 1)} s.` : "";
  return [`Retraining ${item.result ?? "running"}`, `${item.version ? `v${item.version}, ` : ""}by ${item.trigger}.${why}${loss}${work}`];
}

function reportLink(model, ms, text) {
  const link = document.createElement("a");
  link.href = `/reports/${encodeURIComponent(model)}/${ms}`;
  link.textContent = text;
  return link;
}

export function report(element, { name, columns }, index) {
  const found = columns.windows[index ?? columns.windows.length - 1];
  if (found) element.replaceChildren(reportLink(name, found.start_ms, `report of the window of ${format.moment(found.start_ms)}`));
}

export function eventText(element, mark, latest, model) {
  if (!mark) return put(element, "No alarm and no retraining so far.");
  const [title, text] = describe(mark);
  const strong = document.createElement("strong");
  strong.textContent = title;
  element.replaceChildren(latest ? "Latest: " : "", reportLink(model, mark.ms - 1, format.moment(mark.ms)), " · ", strong, ` · ${text}`);
}

export function account(columns) {
  const last = columns.windows.at(-1);
  const [joined, unlabelled, orphaned] = [last?.labels_joined_total, last?.predictions_unlabelled_total, last?.labels_orphaned_total];
  put("account-joined", format.integer(joined));
  put("account-unlabelled", format.integer(unlabelled));
  put("account-orphaned", format.integer(orphaned));
  put("account-duplicate", format.integer(last?.labels_duplicate_total));
  put("account-corrected", format.integer(last?.labels_corrected_total));
  put("account-asked-again", format.integer(last?.predictions_asked_again_total));
  const total = Math.max(1, (joined ?? 0) + (unlabelled ?? 0) + (orphaned ?? 0));
  [joined, unlabelled, orphaned].forEach((count, position) => {
    $("account-bar").children[position].style.flexGrow = String((count ?? 0) / total);
  });
  put("account-note", last ? `Running totals from the first event to ${format.moment(last.end_ms)}.` : "Running totals since the first event.");
}

export function bounds(limits, view) {
  if (!limits) return;
  const left = view.model.featuresOmitted ? ` ${view.model.featuresOmitted} features above the maximum of ${limits.features} are not shown.` : "";
  put("bounds", `Kept: the latest ${format.integer(limits.windows)} windows, ${format.integer(limits.alarms)} alarms, ${format.integer(limits.retrainings)} retrainings per model.${left}`);
}
