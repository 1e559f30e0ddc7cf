// Numbers and times as text. Always in English and UTC, whatever the browser's locale is.

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const INTEGER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const NONE = "–";
export const DAY_MS = 86_400_000;

const two = (value) => String(value).padStart(2, "0");
const known = (value) => typeof value === "number" && Number.isFinite(value);

export function integer(value) {
  return known(value) ? INTEGER.format(value) : NONE;
}

export function decimal(value, digits = 3) {
  return known(value) ? value.toFixed(digits).replace("-", "−") : NONE;
}

export function signed(value, digits = 3) {
  if (!known(value)) return NONE;
  return (value > 0 ? "+" : "") + decimal(value, digits);
}

// Four significant digits, for values of any size.
export function significant(value) {
  if (!known(value)) return NONE;
  const text = Math.abs(value) >= 1e6 || (value !== 0 && Math.abs(value) < 1e-4) ? value.toExponential(2) : Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 8 });
  return text.replace("-", "−");
}

export function psi(value) {
  return decimal(value, known(value) && value >= 10 ? 1 : 2);
}

export function percent(share, digits = 0) {
  return known(share) ? `${(share * 100).toFixed(digits)} %` : NONE;
}

export function milliseconds(seconds) {
  if (!known(seconds)) return NONE;
  const value = seconds * 1000;
  return value < 10 ? value.toFixed(1) : INTEGER.format(value);
}

export function day(ms) {
  if (!known(ms)) return NONE;
  const date = new Date(ms);
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
}

export function date(ms) {
  return known(ms) ? `${day(ms)} ${new Date(ms).getUTCFullYear()}` : NONE;
}

export function clock(ms) {
  if (!known(ms)) return NONE;
  const moment = new Date(ms);
  return `${two(moment.getUTCHours())}:${two(moment.getUTCMinutes())}`;
}

export function moment(ms) {
  return known(ms) ? `${date(ms)}, ${clock(ms)} UTC` : NONE;
}

// Labels of a time axis: years and months when ticks are far apart, else days, else hours.
export function ticks(splits, increment) {
  let before = null;
  return splits.map((seconds) => {
    const at = new Date(seconds * 1000);
    const turn = before === null || before.getUTCFullYear() !== at.getUTCFullYear();
    const nextDay = before === null || before.getUTCDate() !== at.getUTCDate();
    before = at;
    if (increment >= 28 * 86_400) return MONTHS[at.getUTCMonth()] + (turn ? ` ${at.getUTCFullYear()}` : "");
    if (increment >= 86_400) return day(at.getTime()) + (turn ? ` ${at.getUTCFullYear()}` : "");
    return nextDay ? `${day(at.getTime())} ${clock(at.getTime())}` : clock(at.getTime());
  });
}
