// The arms of one window side by side: what each version answered, its loss against the champion's, and its calls.

import * as format from "./format.js";

const HEAD = ["Arm", "Version", "Answered", "Not answered", "Labels", "Loss", "Above the champion’s", "95 % interval", "95 % at all times", "Call p50 / p99, ms"];

// The latest window with arms, at the cursor or before.
function windowAt(columns, index) {
  for (let at = index ?? columns.windows.length - 1; at >= 0; at -= 1) if (columns.windows[at].arms.length) return columns.windows[at];
  return null;
}

export function drawArms(section, { columns }, index) {
  const found = windowAt(columns, index);
  section.hidden = found === null;
  if (found === null) return;
  section.querySelector(".panel-what").textContent = `Window ending ${format.moment(found.end_ms)}. ${columns.loss} of each version, and its difference from the champion’s. The difference of a shadow is paired: both scored the same requests`;
  const table = section.querySelector("table");
  const key = JSON.stringify(found.arms);
  if (table.dataset.shown === key) return;
  table.dataset.shown = key;
  const head = table.tHead.rows[0];
  if (!head.cells.length) for (const text of HEAD) head.append(cell("th", text, "col"));
  table.tBodies[0].replaceChildren(...found.arms.map(row));
}

function row(arm) {
  const element = document.createElement("tr");
  const name = arm.shadow ? `${arm.arm} (shadow)` : arm.arm;
  element.append(cell("th", name, "row"), ...cells(arm).map((text) => cell("td", text)));
  if (arm.failed_low === undefined ? arm.failed : arm.failed_low > 0) element.cells[3].className = "is-bad";
  if (arm.low > 0) element.cells[7].className = "is-bad";
  if (arm.call_ratio_low > 1) element.cells[9].className = "is-bad";
  return element;
}

function cells(arm) {
  return [
    arm.version ? `v${arm.version}` : "unknown",
    format.integer(arm.predictions ?? 0),
    `${format.integer(arm.failed ?? 0)}${arm.failed_share === undefined ? "" : ` (${format.percent(arm.failed_share, 2)})`}`,
    format.integer(arm.labels ?? 0),
    format.decimal(arm.loss),
    arm.champion ? "champion" : arm.difference === undefined ? format.NONE : `${format.signed(arm.difference)}${arm.paired ? ", paired" : ""}`,
    interval(arm.low, arm.high),
    interval(arm.running_low, arm.running_high),
    arm.p50_ms === undefined ? format.NONE : `${format.milliseconds(arm.p50_ms / 1000)} / ${format.milliseconds(arm.p99_ms / 1000)}${arm.call_ratio === undefined ? "" : `, × ${format.decimal(arm.call_ratio, 2)}`}`,
  ];
}

function interval(low, high) {
  return low === undefined ? format.NONE : `${format.signed(low)} to ${format.signed(high)}`;
}

function cell(tag, text, scope) {
  const element = document.createElement(tag);
  if (scope) element.scope = scope;
  element.textContent = text;
  return element;
}
