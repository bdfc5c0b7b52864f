import { get } from "./api.js";
import { Chart, joined } from "./chart.js";
import { badge, card, empty, h, show, showProblem, table } from "./dom.js";
import { duration, number, percent, words } from "./format.js";

const ids = [...new Set(new URLSearchParams(location.search).getAll("job"))].slice(0, 6);
const color = (place) => `--series-${place + 1}`;

function differences(jobs) {
  const specs = jobs.map((job) => job.resolved_spec ?? job.spec);
  const text = (value) => (value === null || value === undefined ? "–" : Array.isArray(value) ? value.join(", ") || "none" : String(value));
  const names = [...new Set(specs.flatMap((spec) => Object.keys(spec)))].filter((name) => new Set(specs.map((spec) => text(spec[name]))).size > 1);
  if (names.length === 0) return h("p", {}, "They were trained with the same spec.");
  return table("Differences of the specs", ["Field", ...jobs.map((job) => job.shown)], names.map((name) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, name)), specs.map((spec) => h("td", {}, text(spec[name]))))));
}

function outcomes(jobs) {
  const targets = [...new Set(jobs.flatMap((job) => Object.keys(job.summary?.targets ?? {})))];
  const row = (name, values, less = true) => {
    const best = Math.min(...values.filter(Number.isFinite));
    return h("tr", {}, h("th", { scope: "row" }, name), values.map((value) => h("td", { class: `number${less && values.filter(Number.isFinite).length > 1 && value === best ? " best" : ""}` }, number(value))));
  };
  return table("Outcomes", ["", ...jobs.map((job) => ({ label: job.shown, number: true }))], [
    h("tr", {}, h("th", { scope: "row" }, "Status"), jobs.map((job) => h("td", { class: "number" }, badge(job.status)))),
    row("Best val_loss", jobs.map((job) => job.best_checkpoint?.val_loss ?? NaN)),
    ...targets.flatMap((target) => [row(`q-risk of ${target}`, jobs.map((job) => job.summary?.targets?.[target]?.q_risk ?? NaN)),
      h("tr", {}, h("th", { scope: "row" }, `Verdict on ${target}`), jobs.map((job) => { const verdict = job.summary?.targets?.[target]?.verdict; return h("td", { class: "number" }, verdict ? badge(verdict) : "–"); }))]),
    h("tr", {}, h("th", { scope: "row" }, "Time"), jobs.map((job) => h("td", { class: "number" }, duration(job.usage.running_seconds)))),
    h("tr", {}, h("th", { scope: "row" }, "Progress"), jobs.map((job) => h("td", { class: "number" }, job.progress ? percent(job.progress.fraction) : "–"))),
    h("tr", {}, h("th", { scope: "row" }, "Ended"), jobs.map((job) => h("td", { class: "number" }, words(job.stop_reason ?? job.status_reason?.code ?? "–")))),
  ]);
}

try {
  if (ids.length < 2) {
    show(h("h1", {}, "Compare jobs"), h("section", { class: "card" }, empty("Choose at least two jobs", h("p", {}, "Tick them in the list of jobs, then choose Compare."), h("a", { class: "button primary", href: "/jobs" }, "All jobs"))));
  } else {
    const jobs = await Promise.all(ids.map((id) => get(`/v1/jobs/${id}`)));
    const names = jobs.map((job) => job.name ?? job.id.slice(-8));
    jobs.forEach((job, place) => { job.shown = names.filter((one) => one === names[place]).length > 1 ? `${names[place]} …${job.id.slice(-5)}` : names[place]; });
    const series = await Promise.all(ids.map((id) => get(`/v1/jobs/${id}/metrics?names=train_loss,val_loss,learning_rate,windows_per_second&max_points=1000`)));
    const plots = [["Validation loss", "val_loss"], ["Training loss", "train_loss"], ["Learning rate", "learning_rate"], ["Windows per second", "windows_per_second"]].map(([title, name]) => ({ title, name, place: h("div") }));
    show(h("p", { class: "crumbs" }, h("a", { href: "/jobs" }, "Jobs"), " / Compare"),
      h("div", { class: "title" }, h("h1", {}, `Compare ${jobs.length} jobs`), h("div", { class: "actions" }, jobs.map((job) => h("a", { class: "button", href: `/jobs/${job.id}` }, job.shown)))),
      card("Outcomes", outcomes(jobs)),
      h("div", { class: "columns two" }, plots.map(({ title, place }) => card(title, place))),
      card("Where their specs differ", differences(jobs)));
    for (const { title, name, place } of plots) {
      const chart = new Chart(place, { height: 220, describe: `${title} of each job by optimizer step`, series: jobs.map((job, number) => ({ label: job.shown, color: color(number), points: name === "val_loss" })) });
      chart.set(joined(series.map((page) => page.items.find((one) => one.name === name)?.points ?? [])));
    }
  }
} catch (problem) {
  show(h("h1", {}, "Compare jobs"), problem.status === 404 ? empty("One of these jobs is not there", h("a", { href: "/jobs" }, "All jobs")) : showProblem(problem));
}
