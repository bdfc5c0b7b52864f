import { all, get, post, remove } from "./api.js";
import { asking, badge, card, empty, h, say, show, showProblem, table } from "./dom.js";
import { ago, date } from "./format.js";

const SCOPES = { "jobs:read": "see jobs and download what they leave", "jobs:write": "submit and steer jobs", "datasets:read": "see datasets", "datasets:write": "upload and delete datasets", admin: "all of it, and keys and webhooks" };
const problem = h("div");
const made = h("div", { role: "status" });
const list = h("div");
let own = null;

function form() {
  const boxes = Object.entries(SCOPES).map(([scope, means]) => h("label", { class: "check" }, h("input", { type: "checkbox", name: "scope", value: scope, checked: scope === "jobs:read" }), h("span", {}, h("code", {}, scope), h("span", { class: "quiet" }, ` ${means}`))));
  return h("form", { onsubmit: create }, h("div", { class: "fields" },
    h("div", { class: "field" }, h("label", { for: "name" }, "name"), h("input", { id: "name", maxlength: "200", placeholder: "grafana" })),
    h("div", { class: "field" }, h("label", { for: "days" }, "valid for days"), h("input", { id: "days", type: "number", min: "1", max: "3650", placeholder: "for ever" }))),
    h("fieldset", {}, h("legend", {}, "what it may do"), boxes), h("button", { class: "primary", type: "submit" }, "Make a key"));
}

async function create(event) {
  event.preventDefault();
  const days = Number(document.getElementById("days").value);
  const body = { scopes: [...event.currentTarget.querySelectorAll("input[name=scope]:checked")].map((one) => one.value) };
  if (document.getElementById("name").value.trim()) body.name = document.getElementById("name").value.trim();
  if (days > 0) body.expires_at = new Date(Date.now() + days * 86_400_000).toISOString();
  try {
    const key = await post("/v1/api_keys", body);
    made.replaceChildren(h("div", { class: "notice calm" }, h("p", {}, "This is the key. It is shown once."), h("div", { class: "secret" }, h("code", {}, key.secret),
      // Browsers offer it on HTTPS and on the machine itself alone.
      navigator.clipboard && h("button", { type: "button", onclick: () => navigator.clipboard.writeText(key.secret).then(() => say("Copied.")) }, "Copy"))));
    problem.replaceChildren();
    await draw();
  } catch (refusal) {
    problem.replaceChildren(showProblem(refusal));
  }
}

async function revoke(key) {
  try {
    await remove(`/v1/api_keys/${key.id}`);
    say(`${key.name ?? key.prefix} is revoked.`);
    await draw();
  } catch (refusal) {
    say(refusal.message, "bad");
  }
}

function state(key) {
  if (key.revoked_at) return badge("revoked");
  return key.expires_at && new Date(key.expires_at) < new Date() ? badge("expired") : badge("ready");
}

async function draw() {
  const keys = await all("/v1/api_keys?limit=200", 1000);
  list.replaceChildren(table("API keys", ["Key", "State", "May do", "Last used", "Expires", { label: h("span", { class: "unseen" }, "Actions") }], keys.map((key) => h("tr", {},
    h("td", {}, h("span", { class: "name" }, key.name ?? "unnamed"), h("span", { class: "id" }, `${key.prefix}…${key.id === own?.key_id ? " (this session)" : ""}`)),
    h("td", {}, state(key)), h("td", {}, key.scopes.map((one) => h("span", { class: "label" }, one))), h("td", {}, key.last_used_at ? ago(key.last_used_at) : "never"),
    h("td", {}, key.expires_at ? date(key.expires_at) : "never"), h("td", {}, key.revoked_at ? null : asking("Revoke", key.name ?? key.prefix, "Really revoke it?", () => revoke(key)))))));
}

try {
  own = await get("/session");
  await draw();
  show(h("div", { class: "title" }, h("h1", {}, "API keys")), problem, made, card("A new key", form()), h("section", { class: "card" }, list));
} catch (refusal) {
  show(h("h1", {}, "API keys"), refusal.status === 403 ? h("section", { class: "card" }, empty("Only a key with the scope admin sees keys", h("p", {}, "You have signed in with another one."))) : showProblem(refusal));
}
