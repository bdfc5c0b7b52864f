import { all, call, Problem } from "./api.js";
import { badge, card, empty, h, part, say, show, showProblem, table } from "./dom.js";
import { ago, bytes, count, step } from "./format.js";
import { repeat } from "./live.js";

const FORMATS = ["csv", "csv.gz", "parquet", "ndjson", "prometheus", "victoriametrics", "influx"];
const ENDINGS = { ".csv": "csv", ".csv.gz": "csv.gz", ".parquet": "parquet", ".ndjson": "ndjson", ".jsonl": "ndjson", ".lp": "influx" };
const problem = h("div");
const list = h("div");
const progress = h("p", { class: "quiet", role: "status", hidden: true });

const file = h("input", { id: "file", type: "file", required: true, onchange: guess });
const name = h("input", { id: "name", maxlength: "200", placeholder: "fleet" });
const format = h("select", { id: "format" }, FORMATS.map((one) => h("option", { value: one }, one)));

show(h("div", { class: "title" }, h("h1", {}, "Datasets")), problem,
  card("Upload a table of metrics", h("form", { onsubmit: upload }, h("div", { class: "fields" },
    h("div", { class: "field" }, h("label", { for: "file" }, "file"), file, h("p", { class: "quiet" }, "A row per server and time; what else it may be is in docs/datasets.md.")),
    h("div", { class: "field" }, h("label", { for: "name" }, "name"), name),
    h("div", { class: "field" }, h("label", { for: "format" }, "format"), format)),
    h("button", { class: "primary", type: "submit" }, "Upload"), progress)),
  h("section", { class: "card" }, list));

function guess() {
  const chosen = file.files[0];
  if (!chosen) return;
  const ending = Object.keys(ENDINGS).sort((one, other) => other.length - one.length).find((one) => chosen.name.endsWith(one));
  if (ending) format.value = ENDINGS[ending];
  if (!name.value) name.value = chosen.name.slice(0, chosen.name.length - (ending?.length ?? 0)).slice(0, 200);
}

// The page's own policy lets the bytes go to this service alone; they are streamed from the disk.
async function upload(event) {
  event.preventDefault();
  const button = event.submitter;
  button.disabled = true;
  progress.hidden = false;
  progress.textContent = `Uploading and inspecting ${bytes(file.files[0].size)} …`;
  problem.replaceChildren();
  try {
    const query = new URLSearchParams({ format: format.value });
    if (name.value.trim()) query.set("name", name.value.trim());
    const { answer, content } = await call("POST", `/v1/datasets?${query}`, file.files[0], { "Content-Type": "application/octet-stream" });
    say(answer.status === 200 ? "This file is already here." : "Uploaded.");
    location.assign(`/datasets/${content.id}`);
  } catch (refusal) {
    problem.replaceChildren(showProblem(refusal));
  } finally {
    button.disabled = false;
    progress.hidden = true;
  }
}

const draw = part(list, ({ datasets }) => datasets.length === 0
  ? empty("No datasets yet", h("p", {}, "Upload one above, or try the real trace that comes along:"), h("pre", {}, "foretrain sample-data metrics.csv"))
  : table("Datasets", ["Dataset", "Status", { label: "Series", number: true }, { label: "Rows", number: true }, "Step", { label: "Size", number: true }, "Uploaded", h("span", { class: "unseen" }, "Actions")].map((one) => (one instanceof Node ? { label: one } : one)),
    datasets.map((one) => h("tr", {},
      h("td", {}, h("a", { class: "name", href: `/datasets/${one.id}` }, one.name ?? "unnamed"), h("span", { class: "id" }, one.id)),
      h("td", {}, badge(one.status)), h("td", { class: "number" }, count(one.schema?.series_count)), h("td", { class: "number" }, count(one.schema?.row_count)),
      h("td", {}, one.schema ? step(one.schema.frequency_seconds) : "–"), h("td", { class: "number" }, bytes(one.size_bytes)), h("td", {}, ago(one.created_at)),
      h("td", {}, one.status === "ready" && h("a", { class: "button", href: `/jobs/new?dataset=${one.id}`, "aria-label": `Train on ${one.name ?? one.id}` }, "Train"))))));

repeat(async () => {
  try {
    const datasets = await all("/v1/datasets?limit=200", 1000);
    draw({ datasets, minute: Math.floor(Date.now() / 30000) });
    return datasets.some((one) => one.status === "inspecting");
  } catch (refusal) {
    problem.replaceChildren(showProblem(refusal instanceof Problem ? refusal : { detail: String(refusal) }));
    throw refusal;
  }
});
