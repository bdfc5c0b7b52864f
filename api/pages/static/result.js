import { call, get } from "./api.js";
import { Chart } from "./chart.js";
import { badge, card, empty, facts, h, show, showProblem, table } from "./dom.js";
import { count, date, duration, number, percent, width, words } from "./format.js";

const id = document.body.dataset.jobId;
const path = `/v1/jobs/${id}`;
const KINDS = { model: "This model", last_value: "Last value", seasonal_naive: "Seasonal naive" };
const JUDGED = {
  better: "It beats the best naive forecast, beyond chance", worse: "A naive forecast is better, beyond chance",
  inconclusive: "The windows cannot tell the model and the best naive forecast apart",
};

// Each target's scores: the model's, then those of the naive forecasts that could be made.
function rows(target) {
  return [["model", target.model], ...Object.entries(target.rivals)].filter(([, scores]) => scores !== null);
}

function bestOf(target, score) {
  return Math.min(...rows(target).map(([, scores]) => scores[score]).filter(Number.isFinite));
}

function targetTile([name, target]) {
  const rival = Math.min(...rows(target).slice(1).map(([, scores]) => scores.q_risk).filter(Number.isFinite));
  const gain = 1 - target.model.q_risk / rival;
  return h("div", { class: "tile" }, h("div", { class: "name" }, name),
    h("div", { class: "value" }, Number.isFinite(gain) ? `${gain >= 0 ? "−" : "+"}${percent(Math.abs(gain))}` : number(target.model.q_risk), " ", target.verdict && badge(target.verdict.verdict)),
    h("div", { class: "more" }, Number.isFinite(gain) ? "q-risk against the best naive forecast" : "q-risk"));
}

function scoreTable([name, target]) {
  const score = (kind, value, digits = 4) => h("td", { class: `number${value === bestOf(target, kind) ? " best" : ""}` }, number(value, digits));
  return [h("h3", {}, name, " ", target.verdict && badge(target.verdict.verdict)),
    h("p", { class: "quiet" }, [target.verdict && JUDGED[target.verdict.verdict], target.verdict_reason].filter(Boolean).join(": ")),
    table(`Scores of ${name}`, ["Forecast", ...["q-risk", "MAE", "RMSE", "sMAPE", "in 80 % interval"].map((label) => ({ label, number: true }))],
      rows(target).map(([kind, scores]) => h("tr", {}, h("th", { scope: "row" }, KINDS[kind] ?? words(kind)),
        score("q_risk", scores.q_risk), score("mae", scores.mae), score("rmse", scores.rmse), score("smape", scores.smape),
        h("td", { class: "number" }, percent(scores.intervals?.["80"]?.coverage, 1)))))];
}

function select(id, label, options, onchange) {
  const list = h("select", { id, onchange }, options.map((one) => h("option", { value: one.value ?? one }, one.label ?? one)));
  return { list, field: h("div", {}, h("label", { for: id }, label), list) };
}

// Forecasts with intervals for a chosen server and target.
function forecastCard(forecasts) {
  const { quantiles } = forecasts;
  const servers = [...new Set(forecasts.windows.map((one) => one.series))];
  const targets = [...new Set(forecasts.windows.map((one) => one.target))];
  const place = h("div");
  const caption = h("p", { class: "quiet", role: "status" });
  const server = select("server", "Server", servers, () => draw());
  const target = select("target", "Target", targets, () => draw());
  let chart = null;
  const middle = quantiles.indexOf(0.5);
  const pair = (low) => [quantiles.findIndex((one) => Math.abs(one - low) < 1e-9), quantiles.findIndex((one) => Math.abs(one - (1 - low)) < 1e-9)];
  const outer = pair(0.1);
  const inner = pair(0.25);
  const widest = outer[0] >= 0 && outer[1] >= 0 ? outer : [0, quantiles.length - 1];
  function draw() {
    const window = forecasts.windows.find((one) => one.series === server.list.value && one.target === target.list.value);
    chart?.end();
    place.replaceChildren();
    if (!window) return;
    const past = window.history.length;
    const none = new Array(past).fill(null);
    const at = (level) => [...none.slice(0, -1), window.history.at(-1), ...window.quantiles.map((step) => step[level])];
    chart = new Chart(place, {
      time: true, xLabel: "time (UTC)", height: 320, now: window.history_times.at(-1),
      describe: `${window.target} of ${window.series}: ${past} steps of history, then the forecast of ${window.times.length} steps with its intervals beside what came`,
      series: [
        { label: "measured", color: "--ink", width: 1.5 },
        { label: "forecast (median)", color: "--series-1", width: 2.5 },
        { label: `${percent(quantiles[widest[1]])} quantile`, color: "--band-edge", width: 1 },
        { label: `${percent(quantiles[widest[0]])} quantile`, color: "--band-edge", width: 1 },
        ...(inner[0] >= 0 && inner[1] >= 0 ? [{ label: "75 %", color: "--band-edge", width: 1, unlisted: true }, { label: "25 %", color: "--band-edge", width: 1, unlisted: true }] : []),
      ],
      bands: [{ high: 2, low: 3, fill: "--band-outer" }, ...(inner[0] >= 0 && inner[1] >= 0 ? [{ high: 4, low: 5, fill: "--band-inner" }] : [])],
    });
    chart.set([[...window.history_times, ...window.times], [...window.history, ...window.actual],
      at(middle), at(widest[1]), at(widest[0]), ...(inner[0] >= 0 && inner[1] >= 0 ? [at(inner[1]), at(inner[0])] : [])]);
    const inside = window.actual.filter((value, step) => value !== null && value >= window.quantiles[step][widest[0]] && value <= window.quantiles[step][widest[1]]).length;
    const known = window.actual.filter((value) => value !== null).length;
    caption.textContent = `The last ${window.times.length} steps that the model had not seen. ${inside} of ${known} measured values lie in the ${percent(quantiles[widest[1]] - quantiles[widest[0]])} interval.`;
  }
  const shown = card("Forecasts", h("div", { class: "picker" }, server.field, target.field), place, caption);
  return { shown, draw };
}

function byHorizon(targets) {
  const made = Object.entries(targets).filter(([, target]) => target.model.by_horizon?.q_risk);
  if (made.length === 0) return null;
  const colors = { model: "--series-1", last_value: "--series-2", seasonal_naive: "--series-3" };
  const charts = made.map(([name, target]) => {
    const place = h("div");
    return { name, place, draw() {
      const kinds = rows(target).filter(([, scores]) => scores.by_horizon?.q_risk);
      const chart = new Chart(place, { height: 200, xLabel: "steps ahead", describe: `q-risk of ${name} by steps ahead`, series: kinds.map(([kind]) => ({ label: KINDS[kind] ?? kind, color: colors[kind] ?? "--series-4" })) });
      chart.set([target.model.by_horizon.q_risk.map((_, step) => step + 1), ...kinds.map(([, scores]) => scores.by_horizon.q_risk)]);
    } };
  });
  return { shown: card("q-risk by steps ahead", h("div", { class: "columns two" }, charts.map(({ name, place }) => h("div", {}, h("h3", {}, name), place)))), draw: () => charts.forEach((one) => one.draw()) };
}

function coverage(targets) {
  const rows = Object.entries(targets).flatMap(([name, target]) => Object.entries(target.model.intervals ?? {}).map(([level, interval]) => h("tr", {},
    h("th", { scope: "row" }, name), h("td", { class: "number" }, `${level} %`), h("td", { class: "number" }, percent(interval.coverage, 1)),
    h("td", { class: "number" }, percent(target.model_raw?.intervals?.[level]?.coverage, 1)), h("td", { class: "number" }, number(interval.width)))));
  return rows.length === 0 ? null : card("Coverage of the intervals", h("p", { class: "quiet" }, "What each interval held on windows the model had not seen; calibration moves the raw ones to what they promise."),
    table("Coverage", ["Target", ...["Promised", "Held", "Uncalibrated", "Mean width"].map((label) => ({ label, number: true }))], rows));
}

// The longest bar is the largest value, or `least` where that is larger: noise is not drawn as if it mattered.
function bars(caption, pairs, show = (value) => percent(value, 1), least = 1e-12) {
  const most = Math.max(...pairs.map(([, value]) => Math.abs(value)), least);
  return h("div", { role: "group", "aria-label": caption }, h("dl", { class: "bars" }, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name),
    h("dd", { class: "track", "aria-hidden": "true" }, h("div", { class: `fill${value < 0 ? " less" : ""}`, style: { width: width(Math.abs(value) / most) } })), h("dd", {}, show(value))))));
}

function change(share) {
  const size = percent(Math.abs(share), 1);
  return size === percent(0, 1) ? size : `${share > 0 ? "+" : "−"}${size}`;
}

function interpretation(found) {
  if (!found) return null;
  const importance = Object.entries(found.targets).map(([name, target]) => {
    const rises = Object.entries(target.importance ?? {}).flatMap(([kind, inputs]) => Object.entries(inputs).map(([input, rise]) => [kind === "encoder" ? input : `${input} (${kind === "decoder" ? "ahead" : kind})`, rise]))
      .filter(([, rise]) => rise !== null).sort((one, other) => other[1] - one[1]).slice(0, 12);
    return h("div", {}, h("h3", {}, name), bars(`Importance for ${name}`, rises, change, 0.01));
  });
  const selection = Object.entries(found.selection ?? {}).filter(([, shares]) => Object.keys(shares).length > 0).map(([kind, shares]) =>
    h("div", {}, h("h3", {}, { static: "Static inputs", encoder: "History", decoder: "Known ahead" }[kind] ?? kind), bars(`Selection: ${kind}`, Object.entries(shares).sort((one, other) => other[1] - one[1]))));
  const place = h("div");
  const attention = card("Attention over the history", h("p", { class: "quiet" }, "Mean weight of each step before the forecast."), place);
  return {
    shown: [card("Which inputs matter", h("p", { class: "quiet" }, `How much the loss rises when an input is shuffled, on ${count(found.windows)} windows.`), h("div", { class: "columns two" }, importance)),
      card("What variable selection lets through", h("div", { class: "columns two" }, selection)), attention],
    draw() {
      const weights = found.attention;
      const chart = new Chart(place, { height: 180, xLabel: "steps before the forecast", describe: "Mean attention by step of the history", value: (one) => percent(one, 1), series: [{ label: "attention", color: "--series-4" }] });
      chart.set([weights.map((_, step) => step - weights.length), weights]);
    },
  };
}

async function optional(path) {
  try {
    return await get(path);
  } catch (problem) {
    if (problem.status === 404) return null;
    throw problem;
  }
}

try {
  const job = await get(path);
  const result = await optional(`${path}/result`);
  const title = [h("p", { class: "crumbs" }, h("a", { href: "/jobs" }, "Jobs"), " / ", h("a", { href: `/jobs/${id}` }, job.name ?? "unnamed"), " / Result"),
    h("div", { class: "title" }, h("div", {}, h("h1", {}, `Result of ${job.name ?? "an unnamed job"}`)), h("div", { class: "actions" },
      result && h("a", { class: "button", href: `${path}/artifacts/report.html`, download: `${job.name ?? id}.html` }, "Report"),
      result && h("a", { class: "button primary", href: `${path}/artifacts/model.ckpt`, download: "model.ckpt" }, "Download model.ckpt")))];
  document.title = `Result of ${job.name ?? "a job"} · foretrain`;
  if (result === null) {
    show(title, h("section", { class: "card" }, empty("No result yet", h("p", {}, `The job is ${job.status}; scores come when it succeeds.`), h("a", { class: "button", href: `/jobs/${id}` }, "Watch the job"))));
  } else {
    const forecasts = await optional(`${path}/artifacts/forecasts.json`);
    const targets = Object.entries(result.scores.targets);
    const parts = [forecasts && forecastCard(forecasts), byHorizon(result.scores.targets), interpretation(result.interpretation)];
    const [forecast, horizon, inside] = parts;
    show(title,
      h("div", { class: "tiles" }, targets.map(targetTile)),
      forecast?.shown ?? [],
      card("Scores", h("p", { class: "quiet" }, `On the ${result.scores.scored_on} windows, lower is better; the naive forecasts have the same windows.`), targets.map(scoreTable)),
      horizon?.shown ?? [], coverage(result.scores.targets), inside?.shown ?? [],
      card("How it was made", facts([
        ["Best epoch", `${result.best.epoch}, step ${count(result.best.step)}`], ["Best val_loss", number(result.best.val_loss)], ["Ended", words(result.stop_reason)],
        ["Steps", count(result.steps)], ["Parameters", count(result.parameters)], ["Time", duration(result.duration_seconds)],
        ["Windows", Object.entries(result.windows).map(([name, size]) => `${words(name)} ${count(size)}`).join(", ")],
        ["Device", `${result.hardware?.device ?? "–"}, ${result.hardware?.threads ?? "–"} threads`], ["PyTorch", result.versions?.torch], ["Created", date(job.created_at)]])));
    parts.forEach((one) => one?.draw());
  }
} catch (problem) {
  show(h("h1", {}, "Result"), problem.status === 404 ? empty("There is no such job", h("a", { href: "/jobs" }, "All jobs")) : showProblem(problem));
}
