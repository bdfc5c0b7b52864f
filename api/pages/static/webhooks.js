import { all, call, get, post, remove } from "./api.js";
import { asking, badge, card, empty, h, say, show, showProblem, table } from "./dom.js";
import { ago, time, words } from "./format.js";

const problem = h("div");
const made = h("div", { role: "status" });
const list = h("div");
const deliveries = h("div");
const EVENTS = ["*", "job.succeeded", "job.failed", "job.cancelled", "job.running", "job.queued", "job.paused"];

function form() {
  return h("form", { onsubmit: create }, h("div", { class: "fields" },
    h("div", { class: "field" }, h("label", { for: "url" }, "url"), h("input", { id: "url", type: "url", required: true, placeholder: "https://hooks.example.org/foretrain" })),
    h("div", { class: "field" }, h("label", { for: "name" }, "name"), h("input", { id: "name", maxlength: "200", placeholder: "pager" }))),
    h("fieldset", {}, h("legend", {}, "events"), h("div", { class: "chips" }, EVENTS.map((one) => h("label", { class: "check" }, h("input", { type: "checkbox", name: "event", value: one, checked: one === "*" }), one === "*" ? "all" : one)))),
    h("button", { class: "primary", type: "submit" }, "Add a webhook"));
}

async function attempt(doing) {
  try {
    await doing();
    problem.replaceChildren();
  } catch (refusal) {
    problem.replaceChildren(showProblem(refusal));
  }
}

function create(event) {
  event.preventDefault();
  const form = event.currentTarget;
  const types = [...form.querySelectorAll("input[name=event]:checked")].map((one) => one.value);
  const body = { url: form.url.value, event_types: types.includes("*") ? ["*"] : types };
  if (form.name.value.trim()) body.name = document.getElementById("name").value.trim();
  return attempt(async () => {
    const webhook = await post("/v1/webhooks", body);
    made.replaceChildren(h("div", { class: "notice calm" }, h("p", {}, "Verify signatures with this secret. It is shown once."), h("div", { class: "secret" }, h("code", {}, webhook.secret))));
    await draw();
  });
}

const change = (webhook, body) => attempt(async () => { await call("PATCH", `/v1/webhooks/${webhook.id}`, body); await draw(); });
const drop = (webhook) => attempt(async () => { await remove(`/v1/webhooks/${webhook.id}`); deliveries.replaceChildren(); await draw(); });
const test = (webhook) => attempt(async () => { await post(`/v1/webhooks/${webhook.id}/test`); say("A test event is on its way."); await showDeliveries(webhook); });

async function showDeliveries(webhook) {
  const { items } = await get(`/v1/webhooks/${webhook.id}/deliveries?limit=50`);
  const last = (one) => one.attempts.at(-1);
  deliveries.replaceChildren(card(`Deliveries to ${webhook.name ?? webhook.url}`, items.length === 0 ? h("p", {}, "Nothing has been sent yet.") : table("Deliveries", ["Event", "State", "Attempts", "Last answer", { label: h("span", { class: "unseen" }, "Actions") }], items.map((one) => h("tr", {},
    h("td", {}, h("span", { class: "name" }, one.event_type), h("span", { class: "id" }, time(one.created_at))), h("td", {}, badge(one.status)), h("td", {}, String(one.attempts.length)),
    h("td", {}, last(one) ? `${last(one).response_status ?? words(last(one).outcome)}` : "–"),
    h("td", {}, h("button", { type: "button", "aria-label": `Send ${one.event_type} again`, onclick: () => attempt(async () => { await post(`/v1/deliveries/${one.id}/replay`); say("It is sent again."); await showDeliveries(webhook); }) }, "Replay")))))));
}

function state(webhook) {
  if (webhook.enabled) return [badge(webhook.failing_since ? "failed" : "ready"), webhook.failing_since && h("div", { class: "quiet" }, `failing since ${ago(webhook.failing_since)}`)];
  return [badge("paused"), h("div", { class: "quiet" }, words(webhook.disabled_reason?.code ?? ""))];
}

async function draw() {
  const webhooks = await all("/v1/webhooks?limit=100", 500);
  list.replaceChildren(webhooks.length === 0 ? empty("No webhooks yet", h("p", {}, "A webhook tells another program of a job's start and end, signed by Standard Webhooks."))
    : table("Webhooks", ["Webhook", "State", "Events", { label: h("span", { class: "unseen" }, "Actions") }], webhooks.map((one) => h("tr", {},
      h("td", {}, h("span", { class: "name" }, one.name ?? "unnamed"), h("span", { class: "id" }, one.url)), h("td", {}, state(one)),
      h("td", {}, one.event_types.map((type) => h("span", { class: "label" }, type === "*" ? "all" : type))),
      h("td", {}, h("div", { class: "actions" }, h("button", { type: "button", onclick: () => attempt(() => showDeliveries(one)) }, "Deliveries"), h("button", { type: "button", onclick: () => test(one) }, "Test"),
        h("button", { type: "button", onclick: () => change(one, { enabled: !one.enabled }) }, one.enabled ? "Switch off" : "Switch on"), asking("Delete", one.name ?? one.url, "Really delete it?", () => drop(one))))))));
}

try {
  await draw();
  show(h("div", { class: "title" }, h("h1", {}, "Webhooks")), problem, made, card("A new webhook", form()), h("section", { class: "card" }, list), deliveries);
} catch (refusal) {
  show(h("h1", {}, "Webhooks"), refusal.status === 403 ? h("section", { class: "card" }, empty("Only a key with the scope admin sees webhooks")) : showProblem(refusal));
}
