// Line charts by uPlot, in the page's colours, as wide as their place, with a text for those who see none.
/* global uPlot */
import { number } from "./format.js";

const WHOLE = [1, 2, 5].flatMap((digit) => [...Array(7).keys()].map((power) => digit * 10 ** power)).sort((one, other) => one - other);
const utc = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options });
const clock = utc({ hour: "2-digit", minute: "2-digit" });
const day = utc({ day: "numeric", month: "short" });
const stamp = utc({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

// Times of the clock, and the day where a new one begins.
function instants(_, times) {
  return times.map((one, place) => (place === 0 || day.format(one * 1000) !== day.format(times[place - 1] * 1000) ? [day.format(one * 1000), clock.format(one * 1000)].join("\n") : clock.format(one * 1000)));
}

const drawn = new Set();
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => drawn.forEach((chart) => chart.redraw()));
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) target.chart?.fit();
});

// Series: {label, color: "--series-1", dash, hidden, points, stepped}; bands: {high, low, fill: "--band-outer"}
// by place in `series`. `time`: x are seconds since 1970. `data`: [x, y1, y2, …], null where there is nothing.
export class Chart {
  constructor(place, { series, bands = [], time = false, height = 240, log = false, xLabel = "step", describe = "", value = number, now = null }) {
    Object.assign(this, { place, series, bands, time, height, log, xLabel, value, now });
    place.classList.add("plot");
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", describe);
    place.chart = this;
    this.data = [[]];
    drawn.add(this);
    sizes.observe(place);
  }

  set(data) {
    this.data = data;
    if (this.plot) this.plot.setData(data);
    else this.redraw();
  }

  fit() {
    const width = Math.floor(this.place.clientWidth);
    if (this.plot && width > 0 && Math.abs(width - this.plot.width) > 1) this.plot.setSize({ width, height: this.height });
    else if (!this.plot && width > 0) this.redraw();
  }

  redraw() {
    const width = Math.floor(this.place.clientWidth);
    if (width <= 0) return;
    this.plot?.destroy();
    this.plot = new uPlot(this.options(width), this.data, this.place);
  }

  end() {
    this.plot?.destroy();
    drawn.delete(this);
    sizes.unobserve(this.place);
  }

  options(width) {
    const [ink, line] = [color("--quiet"), color("--line")];
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
    const shown = (_, value) => (value === null || value === undefined ? "–" : this.value(value));
    return {
      width,
      height: this.height,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      scales: { x: { time: this.time }, y: this.log ? { distr: 3 } : {} },
      cursor: { points: { size: 6 }, drag: { x: true, y: false } },
      legend: { live: true },
      axes: [this.time ? { ...axis, space: 80, values: instants } : { ...axis, incrs: WHOLE }, { ...axis, size: 62, values: (_, values) => values.map((one) => (one === null ? null : this.value(one))) }],
      bands: this.bands.map(({ high, low, fill }) => ({ series: [high + 1, low + 1], fill: color(fill) })),
      series: [
        this.time ? { label: this.xLabel, value: (_, x) => (x === null ? "–" : stamp.format(x * 1000)) } : { label: this.xLabel },
        ...this.series.map((one) => ({
          label: one.label,
          stroke: color(one.color),
          width: one.width ?? 2,
          dash: one.dash,
          show: !one.hidden,
          class: one.unlisted ? "unlisted" : undefined,
          spanGaps: one.spanGaps ?? true,
          points: { show: one.points ?? undefined, size: 5 },
          value: shown,
        })),
      ],
      hooks: this.now === null ? {} : { draw: [(plot) => this.drawNow(plot, ink)] },
    };
  }

  // A line where the forecast begins.
  drawNow(plot, ink) {
    const x = Math.round(plot.valToPos(this.now, "x", true));
    plot.ctx.save();
    plot.ctx.strokeStyle = ink;
    plot.ctx.setLineDash([4, 4]);
    plot.ctx.beginPath();
    plot.ctx.moveTo(x, plot.bbox.top);
    plot.ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
    plot.ctx.stroke();
    plot.ctx.restore();
  }
}

// One table of x and a column for each list of {step, value} points.
export function joined(lists) {
  if (lists.length === 0) return [[]];
  return uPlot.join(lists.map((points) => [points.map((one) => one.step), points.map((one) => one.value)]));
}
