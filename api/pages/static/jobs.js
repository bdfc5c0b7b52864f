import { get } from "./api.js";
import { badge, empty, h, part, show, showProblem, table } from "./dom.js";
import { ago, count, duration, width, words } from "./format.js";
import { repeat } from "./live.js";

const STATUSES = ["queued", "running", "paused", "succeeded", "failed", "cancelled"];
const PAGE = 50;
const asked = new URLSearchParams(location.search);
const wanted = { status: new Set((asked.get("status") ?? "").split(",").filter(Boolean)), label: asked.get("label") ?? "", pages: 1 };
const picked = new Set();

const chips = STATUSES.map((status) => h("button", {
  class: "chip", type: "button", "aria-pressed": String(wanted.status.has(status)),
  onclick: (event) => {
    if (!wanted.status.delete(status)) wanted.status.add(status);
    event.currentTarget.setAttribute("aria-pressed", String(wanted.status.has(status)));
    changed();
  },
}, status));
const label = h("input", { id: "label", value: wanted.label, placeholder: "env:prod", spellcheck: "false" });
const compare = h("button", { type: "button", disabled: true, onclick: () => location.assign(`/jobs/compare?${[...picked].map((id) => `job=${id}`).join("&")}`) }, "Compare");
const problem = h("div");
const queues = h("div", { class: "tiles" });
const list = h("div");
const more = h("button", { type: "button", hidden: true, onclick: () => { wanted.pages += 1; poll.now(); } }, "Show more");

show(
  h("div", { class: "title" }, h("h1", {}, "Jobs"), h("div", { class: "actions" }, compare, h("a", { class: "button primary", href: "/jobs/new" }, "New job"))),
  problem, queues,
  h("section", { class: "card" },
    h("div", { class: "split" },
      h("div", {}, h("p", { id: "by-status", class: "quiet" }, "Status"), h("div", { class: "chips", role: "group", "aria-labelledby": "by-status" }, chips)),
      h("form", { onsubmit: (event) => { event.preventDefault(); wanted.label = label.value.trim(); changed(); } },
        h("label", { for: "label", class: "quiet" }, "Label"), label)),
    list, more));

function query(limit) {
  const query = new URLSearchParams();
  if (wanted.status.size > 0) query.set("status", [...wanted.status].join(","));
  if (wanted.label) query.set("label", wanted.label);
  if (limit) query.set("limit", limit);
  return query;
}

function changed() {
  history.replaceState(null, "", `/jobs${query().size > 0 ? `?${query()}` : ""}`);
  wanted.pages = 1;
  poll.restart();
}

const drawQueues = part(queues, (states) => states.map((one) => h("div", { class: "tile" },
  h("div", { class: "name" }, `Queue ${one.name}`),
  h("div", { class: "value" }, `${count(one.running)} running, ${count(one.queued)} waiting`),
  h("div", { class: "more" }, one.workers === 0 ? "no worker" : `${count(one.idle_workers)} of ${count(one.workers)} workers idle`,
    one.oldest_seconds > 5 && `, longest wait ${duration(one.oldest_seconds)}`))));

function drawJobs(jobs) {
  if (jobs.length === 0) {
    const filtered = wanted.status.size > 0 || wanted.label;
    return filtered ? empty("No job fits the filter") : empty("No jobs yet",
      h("p", {}, "Upload a table of metrics, then train a model that forecasts it."),
      h("p", { class: "actions", style: { justifyContent: "center" } }, h("a", { class: "button", href: "/datasets" }, "Upload a dataset"), h("a", { class: "button primary", href: "/jobs/new" }, "New job")));
  }
  return table("Jobs", [h("span", { class: "unseen" }, "Compare"), "Job", "Status", "Progress", { label: "val_loss", number: true }, "Created"].map((head, place) => ({ label: head, number: head.number, ...(head.label ? head : {}), place })), jobs.map(row));
}

function row(job) {
  return h("tr", {},
    h("td", {}, h("input", {
      type: "checkbox", checked: picked.has(job.id), "aria-label": `Compare ${job.name ?? job.id}`,
      onchange: (event) => {
        if (event.currentTarget.checked) picked.add(job.id);
        else picked.delete(job.id);
        compare.disabled = picked.size < 2;
        compare.textContent = picked.size < 2 ? "Compare" : `Compare ${picked.size}`;
      },
    })),
    h("td", {}, h("a", { class: "name", href: `/jobs/${job.id}` }, job.name ?? "unnamed"), h("span", { class: "id" }, job.id),
      Object.entries(job.labels).map(([name, value]) => h("span", { class: "label" }, `${name}:${value}`))),
    h("td", {}, badge(job.status), h("div", { class: "quiet" }, under(job))),
    h("td", {}, progress(job)),
    h("td", { class: "number" }, job.best_checkpoint?.val_loss?.toPrecision(4) ?? "–"),
    h("td", {}, ago(job.created_at)));
}

function under(job) {
  if (job.stalled) return "no sign of life from the worker";
  if (job.status === "running") return job.phase ? words(job.phase) : null;
  if (job.status === "queued") return job.queue ? `place ${job.queue.position}` : null;
  if (job.status === "failed") return words(job.status_reason?.code ?? "");
  return job.stop_reason && job.stop_reason !== "completed" && job.stop_reason !== job.status ? words(job.stop_reason) : null;
}

function progress(job) {
  if (job.progress === null) return h("span", { class: "quiet" }, "–");
  const eta = job.status === "running" && job.progress.eta_at ? `, ${duration(Math.max(0, (new Date(job.progress.eta_at) - Date.now()) / 1000))} left` : "";
  return [bar(job.progress.fraction, `Progress of ${job.name ?? job.id}`), h("div", { class: "quiet" }, `epoch ${job.progress.epoch}/${job.progress.epochs}${eta}`)];
}

function bar(fraction, name) {
  return h("div", { class: "bar", role: "progressbar", "aria-label": name, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(100 * fraction)) },
    h("div", { style: { width: width(fraction) } }));
}

const redraw = part(list, ({ jobs }) => drawJobs(jobs));

const poll = repeat(async () => {
  try {
    const [state, first] = await Promise.all([get("/v1/queue"), get(`/v1/jobs?${query(PAGE)}`)]);
    const jobs = first.items;
    let next = first.next_cursor;
    for (let page = 1; page < wanted.pages && next !== null; page += 1) {
      const page = await get(`/v1/jobs?${query(PAGE)}&cursor=${encodeURIComponent(next)}`);
      jobs.push(...page.items);
      next = page.next_cursor;
    }
    drawQueues(state.queues.map((one) => ({ ...one, oldest_seconds: Math.round(one.oldest_seconds ?? 0) })));
    redraw({ jobs, minute: jobs.some((one) => !one.is_terminal) ? Date.now() : Math.floor(Date.now() / 30000) });
    more.hidden = next === null;
    problem.replaceChildren();
  } catch (refusal) {
    problem.replaceChildren(showProblem(refusal));
    throw refusal;
  }
}, () => 3);
