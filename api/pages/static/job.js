import { all, get, polled, post } from "./api.js";
import { Chart, joined } from "./chart.js";
import { badge, card, empty, facts, h, part, say, show, showProblem, table } from "./dom.js";
import { ago, bytes, count, date, duration, number, percent, time, width, words } from "./format.js";
import { follow, repeat } from "./live.js";

const id = document.body.dataset.jobId;
const path = `/v1/jobs/${id}`;
const VERBS = { queued: ["pause", "cancel"], running: ["pause", "cancel"], paused: ["resume", "cancel"], failed: ["retry"], cancelled: ["retry"], succeeded: [] };
const SAYS = { cancel: "Cancel", pause: "Pause", resume: "Resume", retry: "Retry" };

const places = Object.fromEntries(["title", "problem", "tiles", "bar", "notices", "facts", "events", "attempts", "artifacts", "spec"].map((name) => [name, h("div")]));
const log = h("pre", { class: "log", tabIndex: 0, role: "region", "aria-label": "Log" });
const plots = { loss: h("div"), rate: h("div"), speed: h("div"), gradient: h("div"), memory: h("div") };
const noNumbers = h("p", { class: "quiet" }, "No numbers yet: they come with the first steps.");
const losses = card("Loss", plots.loss);
losses.classList.add("whole-row");
const charts = h("div", { class: "columns two", hidden: true },
  losses, card("Learning rate", plots.rate), card("Throughput, windows per second", plots.speed), card("Gradient norm", plots.gradient), card("Memory of the training", plots.memory));

show(places.title, places.problem, places.bar, places.tiles, places.notices, h("section", { "aria-label": "Curves" }, charts),
  h("div", { class: "columns two" },
    h("section", { class: "card" }, h("h2", {}, "Events"), h("div", { class: "tall", tabIndex: 0, role: "region", "aria-label": "Events" }, places.events)),
    h("div", {}, h("section", { class: "card" }, h("h2", {}, "Files"), places.artifacts), card("About this job", places.facts), places.attempts)),
  card("Log", log),
  h("details", { class: "card" }, h("summary", {}, "What was asked for, and what it became"), places.spec));

const loss = new Chart(plots.loss, {
  series: [{ label: "train_loss (scaled)", color: "--series-2" }, { label: "val_loss (original units)", color: "--series-1", points: true }],
  describe: "Training loss and validation loss by optimizer step",
});
const single = (place, label, color, describe, more = {}) => new Chart(place, { series: [{ label, color }], height: 180, describe, ...more });
const rate = single(plots.rate, "learning_rate", "--series-3", "Learning rate by optimizer step");
const speed = single(plots.speed, "windows_per_second", "--series-4", "Windows trained per second by optimizer step");
const gradient = single(plots.gradient, "grad_norm", "--series-6", "Norm of the gradient by optimizer step");
const memory = single(plots.memory, "memory_bytes", "--series-5", "Memory of the training by optimizer step", { value: bytes });

const draw = {
  title: part(places.title, (job) => [
    h("p", { class: "crumbs" }, h("a", { href: "/jobs" }, "Jobs"), " / ", h("span", { class: "mono" }, job.id)),
    h("div", { class: "title" },
      h("div", {}, h("h1", {}, job.name ?? "unnamed", " ", badge(job.status)),
        h("p", { class: "quiet" }, headline(job), " ", Object.entries(job.labels).map(([name, value]) => h("span", { class: "label" }, `${name}:${value}`)))),
      h("div", { class: "actions" },
        job.hasResult && h("a", { class: "button primary", href: `/jobs/${id}/result` }, "See the result"),
        VERBS[job.status].map((verb) => h("button", { type: "button", class: verb === "cancel" ? "danger" : null, disabled: job.wish, onclick: () => act(verb) }, SAYS[verb])),
        ["failed", "cancelled"].includes(job.status) && job.hasCheckpoint && h("button", { type: "button", onclick: () => act("retry", { from: "checkpoint" }) }, "Retry from the checkpoint"),
        h("a", { class: "button", href: `/jobs/new?like=${id}` }, "Train one like it")))]),
  bar: part(places.bar, (value) => value === null ? [] : h("div", { class: "bar wide", role: "progressbar", "aria-label": "Progress", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(value * 100)) }, h("div", { style: { width: width(value) } }))),
  tiles: part(places.tiles, (tiles) => h("div", { class: "tiles" }, tiles.map(([name, value, more]) => h("div", { class: "tile" }, h("div", { class: "name" }, name), h("div", { class: "value" }, value), h("div", { class: "more" }, more ?? ""))))),
  notices: part(places.notices, (notices) => notices.map(([kind, ...text]) => h("p", { class: `notice ${kind}` }, text))),
  facts: part(places.facts, (job) => facts([
    ["Dataset", h("a", { href: `/datasets/${job.dataset_id}` }, h("code", {}, job.dataset_id.slice(0, 14), "…"))],
    ["Targets", (job.spec.target_metrics ?? ["cpu_percent"]).join(", ")],
    ["Created", date(job.created_at)], ["Started", job.started_at && date(job.started_at)], ["Ended", job.finished_at && date(job.finished_at)],
    ["Priority", String(job.priority)], ["Seed", String(job.seed)], ["Parameters", job.plan && count(job.plan.parameters)],
    ["Windows", job.plan && Object.entries(job.plan.windows).map(([name, size]) => `${words(name)} ${count(size)}`).join(", ")],
    ["Failures", job.failures > 0 ? String(job.failures) : null], ["Interruptions", job.preemptions > 0 ? String(job.preemptions) : null],
  ])),
  events: part(places.events, (events) => events.length === 0 ? h("p", { class: "quiet" }, "None yet.") : h("ul", { class: "list" }, events.map((event) => h("li", {},
    h("time", { datetime: event.created_at }, time(event.created_at)), h("span", { class: "what" }, h("strong", {}, words(event.type.replace("job.", ""))), " ", h("span", { class: "quiet" }, about(event))))))),
  attempts: part(places.attempts, (attempts) => attempts.length < 2 ? [] : card("Attempts", table("Attempts", ["Attempt", "Worker", "Took", "Ended"], attempts.map((one) => h("tr", {},
    h("td", {}, String(one.attempt)), h("td", {}, one.worker_name),
    h("td", {}, one.ended_at ? duration((new Date(one.ended_at) - new Date(one.started_at)) / 1000) : "running"),
    h("td", {}, one.outcome ? [words(one.outcome), one.message && h("div", { class: "quiet" }, one.message)] : "–")))))),
  artifacts: part(places.artifacts, (artifacts) => artifacts.length === 0 ? h("p", { class: "quiet" }, "Nothing stored yet; checkpoints come after each epoch.") : table("Files", ["File", { label: "Size", number: true }], artifacts.map((one) => h("tr", {},
    h("td", {}, h("a", { href: `${path}/artifacts/${one.name}`, download: one.name }, one.name), h("div", { class: "quiet" }, whatIs(one.name))), h("td", { class: "number" }, bytes(one.size_bytes)))))),
  spec: part(places.spec, ({ spec, resolved, adjustments }) => {
    const changed = new Map(adjustments.map((one) => [one.field, one.reason]));
    return table("Training spec", ["Field", "Asked for", "Trained with"], Object.keys(spec).map((name) => h("tr", {},
      h("th", { scope: "row" }, h("code", {}, name)), h("td", {}, value(spec[name])),
      h("td", {}, resolved === null ? "–" : value(resolved[name]), changed.has(name) && h("div", { class: "quiet" }, changed.get(name))))));
  }),
};

const value = (one) => (one === null || one === undefined ? "–" : Array.isArray(one) ? one.join(", ") || "none" : String(one));

function headline(job) {
  if (job.status === "running") return job.phase ? `${words(job.phase)}, attempt ${job.attempt}` : "starting";
  if (job.status === "queued") return job.queue ? `place ${job.queue.position}: ${job.queue.reason}` : "in the queue";
  if (job.status === "succeeded") return `${words(job.stop_reason ?? "completed")}`;
  return job.status_reason?.message ?? "";
}

function about(event) {
  const data = event.data;
  switch (event.type) {
    case "job.checkpoint": return `${data.name} at step ${data.step}${data.val_loss ? `, val_loss ${number(data.val_loss)}` : ""}`;
    case "job.artifact": return `${data.name}, ${bytes(data.size_bytes)}`;
    case "job.phase": return words(data.phase ?? "");
    case "job.running": return `attempt ${data.attempt} on ${data.worker}`;
    case "job.resolved": return `${count(data.total_steps)} steps, ${count(data.parameters)} parameters`;
    case "job.succeeded": return words(data.stop_reason ?? "");
    default: return data.message ?? (data.code ? words(String(data.code)) : "");
  }
}

const FILES = {
  "model.ckpt": "the best weights; stock pytorch-forecasting opens it", "last.ckpt": "the newest weights", "model.safetensors": "the best weights without a pickle",
  "model.json": "schema, scalers and versions that belong to it", "resume.safetensors": "to go on training from", "resume-older.safetensors": "the one before, should that be damaged", "result.json": "all scores", "report.html": "one file to read and send around",
  "metrics.csv": "every number of every step", "tensorboard.zip": "for tensorboard --logdir", "lr_find.json": "the curve of the learning-rate finder", "example.parquet": "windows with their forecasts",
  "example.json": "the same for stock_example.py", "stock_example.py": "opens the model with stock libraries", "forecasts.json": "the last forecasts of each server",
};
const whatIs = (name) => FILES[name] ?? "";

async function act(verb, body) {
  try {
    await post(`${path}/${verb}`, body);
    say(`${SAYS[verb]}: done`);
    await poll.restart();
    listen();
  } catch (problem) {
    say(problem.message, "bad");
  }
}

const job = polled(path);
const DRAWN = ["train_loss", "val_loss", "learning_rate", "windows_per_second", "grad_norm", "memory_bytes"];
const metrics = polled(`${path}/metrics?names=${DRAWN}&max_points=1000`);
let latest;
let seen = 0;
let events = [];
let logged = 0;
let stream = null;
let holdsState = false;

function showJob(news) {
  latest = news ?? latest;
  const read = latest;
  const running = read.status === "running";
  const progress = read.progress;
  document.title = `${read.status === "running" && progress ? `${percent(progress.fraction)} ` : ""}${read.name ?? "Job"} · foretrain`;
  draw.title({
    id: read.id, name: read.name, status: read.status, phase: read.phase, labels: read.labels, attempt: read.attempt, queue: read.queue, stop_reason: read.stop_reason,
    status_reason: read.status_reason, wish: read.cancel_requested_at !== null || read.pause_requested_at !== null && running, hasResult: read.summary !== null, hasCheckpoint: holdsState,
  });
  draw.bar(progress && !read.is_terminal ? progress.fraction : null);
  const eta = running && progress?.eta_at ? Math.max(0, (new Date(progress.eta_at) - Date.now()) / 1000) : null;
  draw.tiles([
    ["Epoch", progress ? `${progress.epoch} of ${progress.epochs}` : "–", progress ? `step ${count(progress.step)} of ${count(progress.total_steps)}` : "not started"],
    running ? ["Time left", eta === null ? "–" : duration(eta), progress?.eta_at ? `until ${time(progress.eta_at)}` : ""] : ["Time", duration(read.usage.running_seconds), read.finished_at ? `ended ${ago(read.finished_at)}` : ""],
    ["Best val_loss", number(read.best_checkpoint?.val_loss ?? null), read.best_checkpoint ? `epoch ${read.best_checkpoint.epoch}` : "after the first epoch"],
    ["Throughput", progress?.windows_per_second ? number(progress.windows_per_second, 3) : "–", "windows per second"],
  ]);
  const wishes = [];
  if (!read.is_terminal && read.cancel_requested_at) wishes.push(["calm", "Cancelling: the trainer saves and stops."]);
  if (running && read.pause_requested_at) wishes.push(["calm", "Pausing: the trainer saves and stops; it can be resumed."]);
  if (read.stalled) wishes.push(["", "The worker has missed several heartbeats; the job is queued again when its lease runs out."]);
  draw.notices([...wishes,
    ...read.warnings.map((one) => ["", h("strong", {}, words(one.code)).textContent, ": ", one.message]),
    ...read.adjustments.filter((one) => one.requested !== null).map((one) => ["calm", `${one.field}: ${value(one.requested)} became ${value(one.effective)}, ${one.reason}`])]);
  draw.facts(read);
  draw.spec({ spec: read.spec, resolved: read.resolved_spec, adjustments: read.adjustments });
}

function showMetrics(page) {
  if (page === undefined) return;
  const byName = new Map(page.items.map((one) => [one.name, one.points]));
  charts.hidden = byName.size === 0;
  if (byName.size === 0) return;
  loss.set(joined([byName.get("train_loss") ?? [], byName.get("val_loss") ?? []]));
  for (const [chart, name] of [[rate, "learning_rate"], [speed, "windows_per_second"], [gradient, "grad_norm"], [memory, "memory_bytes"]]) chart.set(joined([byName.get(name) ?? []]));
}

async function showEvents() {
  const found = await all(`${path}/events?limit=500`);
  if (found.length === seen) return;
  seen = found.length;
  events = found;
  draw.events([...events].reverse().slice(0, 300));
  const [artifacts, attempts] = await Promise.all([get(`${path}/artifacts`), get(`${path}/attempts`)]);
  // A job that was paused in its first epoch has no weights worth a name, but a state to go on from.
  holdsState = artifacts.items.some((one) => one.name === "resume.safetensors");
  if (latest !== undefined) showJob();
  draw.artifacts(artifacts.items);
  draw.attempts(attempts.items);
}

async function showLog() {
  const chunks = await all(`${path}/logs?limit=500`);
  if (chunks.length === logged && logged > 0) return;
  logged = chunks.length;
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 30;
  log.textContent = chunks.map((one) => one.text).join("").split("\n").slice(-400).join("\n").trim() || "Nothing written yet.";
  if (atEnd) log.scrollTop = log.scrollHeight;
}

// From the first look on, and anew when a verb has set an ended job going again.
function listen() {
  stream?.end();
  stream = latest === undefined || latest.is_terminal ? null : follow(`${path}/events/stream`, () => poll.now());
}

const poll = repeat(async () => {
  try {
    const hadEnded = latest?.is_terminal ?? false;
    await Promise.all([job().then(showJob), metrics().then(showMetrics), showEvents(), showLog()]);
    places.problem.replaceChildren();
    // Once more after the end: the numbers were asked for together with it, not behind it.
    return !(hadEnded && latest.is_terminal);
  } catch (problem) {
    if (problem.status === 404) {
      show(h("h1", {}, "No such job"), empty("There is no job of this name", h("p", {}, "It may have been deleted, or belongs to another tenant."), h("a", { href: "/jobs" }, "All jobs")));
      return false;
    }
    places.problem.replaceChildren(showProblem(problem));
    throw problem;
  }
}, () => stream?.pollSeconds() ?? 2);

poll.first.then(listen);
