import { get, remove } from "./api.js";
import { Chart } from "./chart.js";
import { asking, badge, card, empty, facts, h, say, show, showProblem, table } from "./dom.js";
import { bytes, count, date, number, step, words } from "./format.js";
import { repeat } from "./live.js";

const id = document.body.dataset.datasetId;
const path = `/v1/datasets/${id}`;

function findings(list) {
  if (list.length === 0) return h("p", {}, "Nothing to complain about: no gaps, no duplicates, nothing out of range.");
  return table("Findings", ["Finding", { label: "Series", number: true }, { label: "Rows", number: true }, "First examples"], list.map((one) => h("tr", {},
    h("td", {}, h("span", { class: "name" }, words(one.code)), h("div", { class: "quiet" }, one.detail)),
    h("td", { class: "number" }, count(one.series_count)), h("td", { class: "number" }, count(one.row_count)),
    h("td", { class: "quiet" }, one.examples.slice(0, 3).map((example) => h("div", {}, Object.entries(example).map(([name, value]) => `${name} ${value}`).join(", ")))))));
}

function plotCard(dataset) {
  const place = h("div");
  const caption = h("p", { class: "quiet", role: "status" }, "Reading …");
  const columns = dataset.schema.columns.filter((one) => one.type === "numeric").map((one) => one.name);
  const column = h("select", { id: "column", onchange: () => draw() }, columns.map((one) => h("option", {}, one)));
  const series = h("input", { id: "series", list: "series-names", autocomplete: "off", onchange: () => draw() });
  const names = h("datalist", { id: "series-names" });
  let chart = null;
  let turn = 0;
  async function draw() {
    turn += 1;
    const mine = turn;
    caption.textContent = "Reading …";
    const query = new URLSearchParams({ column: column.value, max_points: "4000" });
    if (series.value) query.set("series", series.value);
    try {
      const found = await get(`${path}/values?${query}`);
      if (mine !== turn) return;
      if (!series.value) series.value = found.series;
      if (names.children.length === 0) names.append(...found.series_names.map((one) => h("option", { value: one })));
      chart?.end();
      place.replaceChildren();
      chart = new Chart(place, { time: true, height: 300, xLabel: "time (UTC)", describe: `${found.column} of ${found.series} over time`, series: [{ label: found.column, color: "--series-1", width: 1.5, spanGaps: false }] });
      chart.set([found.times, found.values]);
      const gaps = found.values.filter((one) => one === null).length;
      caption.textContent = `${count(found.step_count)} steps${found.times.length < found.step_count ? `, drawn with ${count(found.times.length)} points: peaks and gaps stay` : ""}${gaps > 0 ? `; the line breaks where nothing was measured` : ""}. Drag to zoom, double-click to see all.`;
    } catch (refusal) {
      if (mine === turn) caption.textContent = refusal.detail ?? refusal.message;
    }
  }
  const shown = card("Look at a series", h("div", { class: "picker" }, h("div", {}, h("label", { for: "series" }, "Series"), series, names), h("div", {}, h("label", { for: "column" }, "Column"), column)), place, caption);
  return { shown, draw };
}

async function drop() {
  try {
    await remove(path);
    location.assign("/datasets");
  } catch (refusal) {
    say(refusal.message, "bad");
  }
}

function draw(dataset) {
  document.title = `${dataset.name ?? "Dataset"} · foretrain`;
  const head = [h("p", { class: "crumbs" }, h("a", { href: "/datasets" }, "Datasets"), " / ", h("span", { class: "mono" }, dataset.id)),
    h("div", { class: "title" }, h("h1", {}, dataset.name ?? "unnamed", " ", badge(dataset.status)), h("div", { class: "actions" },
      dataset.status === "ready" && h("a", { class: "button primary", href: `/jobs/new?dataset=${id}` }, "Train on it"), dataset.status !== "inspecting" && asking("Delete", dataset.name ?? "this dataset", "Really delete it?", drop)))];
  if (dataset.status === "inspecting") return show(head, h("section", { class: "card" }, empty("Being inspected", h("p", {}, "Columns, cadence and gaps are looked for; this page shows them when it is done."))));
  if (dataset.status === "rejected") return show(head, showProblem({ title: "It cannot be used", detail: dataset.problem?.detail, errors: dataset.problem?.column ? [{ detail: `column ${dataset.problem.column}, row ${dataset.problem.row ?? "–"}` }] : [] }));
  const schema = dataset.schema;
  const plot = plotCard(dataset);
  show(head,
    h("div", { class: "tiles" }, [["Series", count(schema.series_count), schema.group_columns.join(" / ") || "one"], ["Rows", count(schema.row_count), bytes(dataset.size_bytes)], ["Step", step(schema.frequency_seconds), `${count(schema.series_lengths.median)} steps a series`],
      ["Findings", count(schema.findings.length), schema.findings.map((one) => words(one.code)).join(", ") || "none"]].map(([name, value, more]) => h("div", { class: "tile" }, h("div", { class: "name" }, name), h("div", { class: "value" }, value), h("div", { class: "more" }, more)))),
    plot.shown,
    card("Report", findings(schema.findings)),
    card("Columns", table("Columns", ["Column", "Type", "Unit", ...["Missing", "Minimum", "Mean", "Maximum"].map((label) => ({ label, number: true }))], schema.columns.map((one) => h("tr", {},
      h("th", { scope: "row" }, one.name), h("td", {}, one.type), h("td", {}, one.unit ?? "–"), h("td", { class: "number" }, count(one.missing_count)),
      h("td", { class: "number" }, number(one.minimum)), h("td", { class: "number" }, number(one.mean)), h("td", { class: "number" }, number(one.maximum)))))),
    card("About it", facts([["From", date(schema.starts_at)], ["To", date(schema.ends_at)], ["Format", dataset.format], ["Time column", schema.time_column], ["Uploaded", date(dataset.created_at)], ["SHA-256", h("code", {}, dataset.sha256.slice(0, 16), "…")]])));
  plot.draw();
}

repeat(async () => {
  try {
    const dataset = await get(path);
    draw(dataset);
    return dataset.status === "inspecting";
  } catch (refusal) {
    show(h("h1", {}, "Dataset"), refusal.status === 404 ? empty("There is no dataset of this name", h("a", { href: "/datasets" }, "All datasets")) : showProblem(refusal));
    return false;
  }
});
