import { all, get, post } from "./api.js";
import { card, empty, facts, h, main, show, showProblem } from "./dom.js";
import { bytes, count, duration, number, words } from "./format.js";

const GROUPS = { data: "What to forecast", windows: "Windows of time", stopping: "How long", optimizer: "Optimizer", network: "Network", hardware: "Hardware", reporting: "Reporting" };
const OPEN = ["data", "windows", "stopping"];
// The preset stands above all; minutes are a limit of the job.
const ELSEWHERE = new Set(["preset", "max_minutes"]);

const asked = new URLSearchParams(location.search);
const fields = new Map();
let datasets = [];

// The part of the schema that a person fills in: null stands for "left to the service".
function kindOf(schema) {
  const options = schema.anyOf ?? [schema];
  const kind = options.find((one) => one.type !== "null") ?? schema;
  return { kind, optional: options.some((one) => one.type === "null"), initial: schema.default };
}

function describe(name, schema) {
  const { kind } = kindOf(schema);
  const bounds = [kind.minimum ?? kind.exclusiveMinimum, kind.maximum ?? kind.exclusiveMaximum];
  const bound = (one) => (Number.isInteger(one) ? count(one) : number(one));
  const unit = schema["x-unit"] && schema["x-unit"] !== "share" ? ` ${schema["x-unit"]}` : "";
  const range = bounds.every((one) => one !== undefined) ? `${bound(bounds[0])} to ${bound(bounds[1])}${unit}.` : "";
  const needs = schema["x-needs"] ? `Needs ${schema["x-needs"]}.` : "";
  return [h("code", {}, name), " ", [schema.description, range, needs].filter(Boolean).join(" ")];
}

// One control for one field of the schema. `read` gives undefined for what is left as it is.
function control(name, schema) {
  const { kind, optional, initial } = kindOf(schema);
  const id = `field-${name}`;
  const help = h("p", { id: `${id}-help`, class: "quiet" }, describe(name, schema));
  const wrong = h("p", { id: `${id}-wrong`, class: "wrong", hidden: true });
  const common = { id, "aria-describedby": `${id}-help ${id}-wrong` };
  const label = h("label", { for: id }, schema.title);
  let input;
  let read;
  let write;
  if (kind.type === "boolean" && !optional) {
    input = h("input", { ...common, type: "checkbox", checked: Boolean(initial) });
    read = () => (input.checked === Boolean(initial) ? undefined : input.checked);
    write = (value) => { input.checked = Boolean(value); };
  } else if (kind.type === "boolean" || kind.enum) {
    const values = kind.type === "boolean" ? [true, false] : kind.enum;
    const first = optional || initial === undefined ? [h("option", { value: "" }, "as it fits")] : [];
    input = h("select", common, first, values.map((one) => h("option", { value: JSON.stringify(one), selected: one === initial }, String(one))));
    read = () => (input.value === "" || JSON.parse(input.value) === initial ? undefined : JSON.parse(input.value));
    write = (value) => { input.value = value === null ? "" : JSON.stringify(value); };
  } else if (kind.type === "integer" || kind.type === "number") {
    input = h("input", { ...common, type: "number", step: kind.type === "integer" ? "1" : "any", min: kind.minimum ?? kind.exclusiveMinimum ?? null, max: kind.maximum ?? kind.exclusiveMaximum ?? null, placeholder: initial === null || initial === undefined ? "as it fits" : String(initial) });
    read = () => (input.value === "" ? undefined : Number(input.value));
    write = (value) => { input.value = value === null || value === initial ? "" : String(value); };
  } else {
    const numbers = kind.items?.type === "number";
    input = h("input", { ...common, spellcheck: "false", placeholder: Array.isArray(initial) ? initial.join(", ") || "none" : "as it fits" });
    read = () => (input.value.trim() === "" ? undefined : input.value.split(",").map((one) => one.trim()).filter(Boolean).map((one) => (numbers ? Number(one) : one)));
    write = (value) => { input.value = Array.isArray(value) && JSON.stringify(value) !== JSON.stringify(initial) ? value.join(", ") : ""; };
  }
  const usual = input.placeholder;
  const preset = (values) => { if (input.type === "number") input.placeholder = values?.[name] === undefined ? usual : String(values[name]); };
  fields.set(name, { read, write, input, wrong, preset });
  return h("div", { class: "field" }, input.type === "checkbox" ? h("label", { class: "check", for: id }, input, schema.title) : [label, input], wrong, help);
}

// The targets as boxes to tick, from the columns of the chosen dataset.
function targetBoxes() {
  const legend = h("legend", {}, "Targets");
  const boxes = h("div");
  const wrong = h("p", { class: "wrong", hidden: true });
  let chosen = null;
  const fieldset = h("fieldset", { id: "field-target_metrics" }, legend, boxes, wrong);
  fields.set("target_metrics", {
    input: fieldset, wrong,
    read: () => {
      const ticked = [...boxes.querySelectorAll("input:checked")].map((one) => one.value);
      return ticked.length > 0 ? ticked : undefined;
    },
    write: (value) => { chosen = value; },
    offer: (dataset) => {
      const columns = (dataset?.schema?.columns ?? []).filter((one) => one.type === "numeric").map((one) => one.name);
      const wanted = chosen ?? columns.filter((one) => one === "cpu_percent");
      boxes.replaceChildren(...columns.map((one) => h("label", { class: "check" }, h("input", { type: "checkbox", value: one, checked: wanted.includes(one) || (wanted.length === 0 && one === columns[0]) }), one)));
      chosen = null;
    },
  });
  return fieldset;
}

const problem = h("div");
const estimate = h("div", { "aria-live": "polite" }, h("p", { class: "quiet" }, "Choose a dataset."));

function draw(schema) {
  const dataset = h("select", { id: "dataset", required: true, onchange: () => { offer(); changed(); } },
    datasets.map((one) => h("option", { value: one.id }, `${one.name ?? one.id} (${count(one.schema.series_count)} series, ${count(one.schema.row_count)} rows)`)));
  const presets = schema["x-presets"] ?? {};
  const preset = h("select", { id: "preset", onchange: () => fields.forEach((field) => field.preset?.(presets[preset.value])) },
    h("option", { value: "" }, "none: the defaults shown"), Object.keys(presets).map((one) => h("option", { value: one }, one)));
  // What is not built yet takes one value only: nothing to choose.
  const shown = Object.entries(schema.properties).filter(([name, one]) => !ELSEWHERE.has(name) && one["x-supported"] === undefined);
  const groups = [...new Set(shown.map(([, one]) => one["x-group"]))].sort((one, other) => Object.keys(GROUPS).indexOf(one) - Object.keys(GROUPS).indexOf(other));
  const form = h("form", { id: "new-job", oninput: changed, onsubmit: submit, novalidate: true },
    card("The job", h("div", { class: "fields" },
      h("div", { class: "field" }, h("label", { for: "dataset" }, "dataset"), dataset),
      h("div", { class: "field" }, h("label", { for: "name" }, "name"), h("input", { id: "name", maxlength: "200", placeholder: "fleet-nightly" })),
      h("div", { class: "field" }, h("label", { for: "labels" }, "labels"), h("input", { id: "labels", placeholder: "env:prod, team:ops", spellcheck: "false" })),
      h("div", { class: "field" }, h("label", { for: "preset" }, "preset"), preset, h("p", { class: "quiet" }, "Defaults below what you set yourself.")),
      h("div", { class: "field" }, h("label", { for: "priority" }, "priority"), h("input", { id: "priority", type: "number", min: "-100", max: "100", placeholder: "0" })),
      h("div", { class: "field" }, h("label", { for: "max_runtime" }, "at most, minutes"), h("input", { id: "max_runtime", type: "number", min: "1", placeholder: "no limit" }), h("p", { class: "quiet" }, "Then it ends with what it has learnt.")))),
    groups.map((group) => h("details", { class: "card", open: OPEN.includes(group) }, h("summary", {}, GROUPS[group] ?? words(group)),
      h("div", { class: "fields" }, shown.filter(([, one]) => one["x-group"] === group).map(([name, one]) => (name === "target_metrics" ? targetBoxes() : control(name, one)))))),
    problem,
    h("button", { class: "primary", type: "submit" }, "Start training"));
  show(h("p", { class: "crumbs" }, h("a", { href: "/jobs" }, "Jobs"), " / New"), h("div", { class: "title" }, h("h1", {}, "New job")),
    h("div", { class: "columns side" }, form, h("aside", { class: "sticky", "aria-label": "What it will take" }, card("What it will take", estimate))));
}

const by = (id) => document.getElementById(id);

function offer() {
  fields.get("target_metrics").offer(datasets.find((one) => one.id === by("dataset").value));
}

function labels() {
  const pairs = by("labels").value.split(",").map((one) => one.trim()).filter(Boolean).map((one) => one.split(/:(.*)/s).slice(0, 2));
  return Object.fromEntries(pairs.map(([name, value]) => [name, value ?? ""]));
}

function request() {
  const training = {};
  for (const [name, field] of fields) {
    const value = field.read();
    if (value !== undefined) training[name] = value;
  }
  if (by("preset").value) training.preset = by("preset").value;
  const job = { dataset_id: by("dataset").value, labels: labels(), training };
  if (by("name").value.trim()) job.name = by("name").value.trim();
  if (by("priority").value) job.priority = Number(by("priority").value);
  if (by("max_runtime").value) job.limits = { max_runtime_seconds: Math.round(60 * Number(by("max_runtime").value)) };
  return job;
}

let timer = null;
let turn = 0;
function changed() {
  clearTimeout(timer);
  timer = setTimeout(ask, 350);
}

// What the service thinks of the form as it stands: the estimate, or at least whether it would be taken.
async function ask() {
  turn += 1;
  const mine = turn;
  try {
    const told = await post("/v1/jobs/estimate", request());
    if (mine === turn) showEstimate(told);
  } catch (refusal) {
    if (mine === turn) showRefusal(refusal);
  }
}

function clearMarks() {
  for (const { input, wrong } of fields.values()) {
    input.removeAttribute("aria-invalid");
    wrong.hidden = true;
  }
  problem.replaceChildren();
}

function showRefusal(refusal) {
  clearMarks();
  const rest = [];
  for (const error of refusal.errors ?? []) {
    const field = fields.get((error.pointer ?? "").match(/^\/training\/([^/]+)/)?.[1]);
    if (field === undefined) rest.push(error);
    else {
      field.input.setAttribute("aria-invalid", "true");
      field.wrong.textContent = error.detail;
      field.wrong.hidden = false;
      field.input.closest("details").open = true;
    }
  }
  estimate.replaceChildren(h("p", { class: "notice" }, refusal.detail ?? refusal.message));
  return rest;
}

function spread(range, format) {
  if (range === null) return "not known before the first job";
  const [low, high] = [format(range.low), format(range.high)];
  return low === high ? low : `${low} to ${high}`;
}

function showEstimate(told) {
  clearMarks();
  const spec = told.resolved_spec;
  estimate.replaceChildren(facts([
    ["Training", spread(told.duration_seconds, duration)], ["Memory", spread(told.memory_bytes, bytes)],
    ["Queue", `${told.queue_name}, place ${told.queue.position}`], ["Steps", spread(told.steps, count)],
    ["Training windows", spread(told.train_windows, count)], ["Validation windows", spread(told.validation_windows, count)], ["Test windows", spread(told.test_windows, count)],
    ["Parameters", spread(told.parameters, count)], ["Effective batch", count(spec.batch_size * spec.accumulate_grad_batches)],
    ["Targets", spec.target_metrics?.join(", ")], ["Epochs", String(spec.epochs)], ["Precision", spec.precision],
  ]), h("p", { class: "quiet" }, told.speed === null ? "" : `By the speed of ${count(told.speed.job_count)} earlier ${told.speed.alike ? "jobs like it" : "jobs of other sizes"}.`, " ", told.queue.reason),
    ...told.warnings.map((one) => h("p", { class: "notice" }, one.message)),
    told.adjustments.length > 0 ? h("details", {}, h("summary", {}, "What the service makes of it"), h("ul", {}, told.adjustments.map((one) => h("li", {}, h("code", {}, one.field), `: ${JSON.stringify(one.effective)}, ${one.reason}`)))) : "");
}

let key = crypto.randomUUID?.() ?? String(Math.random());
async function submit(event) {
  event.preventDefault();
  const button = event.submitter;
  if (button) button.disabled = true;
  try {
    const job = await post("/v1/jobs", request(), { "Idempotency-Key": key });
    location.assign(`/jobs/${job.id}`);
  } catch (refusal) {
    key = crypto.randomUUID?.() ?? String(Math.random());
    const rest = showRefusal(refusal);
    problem.replaceChildren(showProblem({ title: refusal.title, detail: refusal.detail ?? refusal.message, errors: rest, request_id: refusal.request_id }));
    problem.scrollIntoView({ block: "nearest" });
  } finally {
    if (button) button.disabled = false;
  }
}

async function fillLike(id) {
  const job = await get(`/v1/jobs/${id}`);
  if (datasets.some((one) => one.id === job.dataset_id)) by("dataset").value = job.dataset_id;
  by("name").value = job.name ?? "";
  by("labels").value = Object.entries(job.labels).map((pair) => pair.join(":")).join(", ");
  for (const [name, field] of fields) if (job.spec[name] !== undefined) field.write(job.spec[name]);
  if (job.spec.preset) by("preset").value = job.spec.preset;
}

try {
  const [schema, found] = await Promise.all([get("/v1/spec/schema"), all("/v1/datasets?limit=200", 500)]);
  datasets = found.filter((one) => one.status === "ready");
  if (datasets.length === 0) {
    show(h("h1", {}, "New job"), h("section", { class: "card" }, empty("There is no dataset to train on yet", h("p", {}, "Upload a table of metrics first: CSV, Parquet, NDJSON, or what Prometheus exports."), h("a", { class: "button primary", href: "/datasets" }, "Upload a dataset"))));
  } else {
    draw(schema);
    if (asked.get("dataset")) by("dataset").value = asked.get("dataset");
    if (asked.get("like")) await fillLike(asked.get("like"));
    offer();
    main().setAttribute("aria-busy", "false");
    await ask();
  }
} catch (refusal) {
  show(h("h1", {}, "New job"), showProblem(refusal));
}
