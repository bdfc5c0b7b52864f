// Calls to the API of this service; a refusal is thrown as its problem document.

export class Problem extends Error {
  constructor(content) {
    super(content.detail ?? content.title);
    Object.assign(this, content);
  }
}

export async function call(method, path, body, headers = {}) {
  const request = { method, headers: { ...headers }, credentials: "same-origin" };
  if (body instanceof Blob) request.body = body;
  else if (body !== undefined) {
    request.body = JSON.stringify(body);
    request.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, request);
  } catch {
    throw new Problem({ code: "unreachable", title: "The service does not answer", detail: "The page tries again by itself." });
  }
  if (answer.status === 401 && path !== "/session") {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    return new Promise(() => {});
  }
  if (answer.status === 204) return { answer, content: null };
  if (answer.status === 304) return { answer, content: undefined };
  let content = null;
  if ((answer.headers.get("Content-Type") ?? "").includes("json")) content = await answer.json();
  if (!answer.ok) throw new Problem(content ?? { title: `The service answered ${answer.status}`, detail: answer.statusText });
  return { answer, content };
}

export const get = async (path) => (await call("GET", path)).content;
export const post = async (path, body, headers) => (await call("POST", path, body, headers)).content;
export const remove = async (path) => (await call("DELETE", path)).content;

// A path whose answer carries an ETag: undefined while it is the one that is held.
export function polled(path) {
  let etag;
  return async () => {
    const { answer, content } = await call("GET", path, undefined, etag ? { "If-None-Match": etag } : {});
    if (content !== undefined) etag = answer.headers.get("ETag") ?? undefined;
    return content;
  };
}

export async function all(path, most = 2000) {
  const items = [];
  let cursor = null;
  do {
    const joint = path.includes("?") ? "&" : "?";
    const page = await get(cursor === null ? path : `${path}${joint}cursor=${encodeURIComponent(cursor)}`);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor !== null && items.length < most);
  return items;
}
