// Numbers, times and sizes as people read them.

const whole = new Intl.NumberFormat("en");
export const count = (value) => (value === null || value === undefined ? "–" : whole.format(value));

export function number(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(digits)));
}

export const percent = (share, digits = 0) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)} %`);

// A length in CSS.
export const width = (share) => `${(100 * share).toFixed(2)}%`;

export function bytes(size) {
  if (size === null || size === undefined) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let place = 0;
  while (size >= 1000 && place < units.length - 1) {
    size /= 1000;
    place += 1;
  }
  return `${place === 0 ? size : size.toFixed(size < 10 ? 1 : 0)} ${units[place]}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const rest = Math.max(0, Math.round(seconds));
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (rest < 60) return `${rest} s`;
  if (rest < 3600) return `${Math.floor(rest / 60)} min ${String(rest % 60).padStart(2, "0")} s`;
  if (rest < 48 * 3600) return `${Math.floor(rest / 3600)} h ${String(Math.floor((rest % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(rest / 86400)} days`;
}

export function ago(moment) {
  const seconds = (Date.now() - new Date(moment)) / 1000;
  if (seconds < 5) return "just now";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit" });
export const time = (moment) => (moment ? clock.format(new Date(moment)) : "–");
export const date = (moment) => (moment ? day.format(new Date(moment)) : "–");

export const words = (name) => name.replaceAll("_", " ");

export function step(seconds) {
  if (seconds % 86400 === 0) return seconds === 86400 ? "1 day" : `${seconds / 86400} days`;
  if (seconds % 3600 === 0) return `${seconds / 3600} h`;
  if (seconds % 60 === 0) return `${seconds / 60} min`;
  return `${seconds} s`;
}
