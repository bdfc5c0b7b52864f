// Builds elements. Text is always set as text, so nothing that a customer named becomes markup.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const main = () => document.getElementById("main");

export function show(...children) {
  const place = main();
  place.replaceChildren(...children.flat(Infinity).filter(Boolean));
  place.setAttribute("aria-busy", "false");
}

// Redraws a part only when what it shows has changed, so that focus and selection stay where they are.
export function part(element, build) {
  let shown;
  return (content) => {
    const key = JSON.stringify(content);
    if (key === shown) return;
    shown = key;
    element.replaceChildren(...[build(content)].flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  };
}

export function card(title, ...children) {
  return h("section", { class: "card" }, h("h2", {}, title), ...children);
}

export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

export function table(caption, heads, rows, attributes = {}) {
  const head = heads.map((one) => h("th", { scope: "col", class: one.number ? "number" : null }, one.label ?? one));
  return h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
    h("table", attributes, h("caption", { class: "unseen" }, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)));
}

// What cannot be undone is asked twice, on the spot.
export function asking(label, name, question, doing) {
  const sure = h("button", { type: "button", class: "danger", onclick: doing }, question);
  const ask = h("button", { type: "button", class: "danger", "aria-label": `${label} ${name}`, onclick: () => { ask.replaceWith(sure); sure.focus(); } }, label);
  return ask;
}

export const empty = (title, ...more) => h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), ...more);

export function badge(status) {
  return h("span", { class: `badge ${status}` }, status);
}

export function say(text, kind = "info") {
  const toast = h("div", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(toast);
  setTimeout(() => toast.remove(), 8000);
}

export function showProblem(problem) {
  const details = (problem.errors ?? []).map((one) => h("li", {}, [one.pointer && h("code", {}, one.pointer), " ", one.detail].filter(Boolean)));
  return h("div", { class: "problem", role: "alert" },
    h("p", {}, h("strong", {}, problem.title ?? "That did not work"), " – ", problem.detail ?? String(problem)),
    details.length > 0 && h("ul", {}, details),
    problem.request_id && h("p", { class: "quiet" }, "Request ", h("code", {}, problem.request_id)));
}
