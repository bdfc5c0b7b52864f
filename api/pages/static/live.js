// Keeps a page up to date: by the event stream where there is one, and by cheap polls in any case.

const SECONDS = 2;

// Calls `ask` now and every so often, not while the page is out of sight, until `ask` returns false.
export function repeat(ask, seconds = SECONDS) {
  let timer = null;
  let ended = false;
  let running = false;
  let again = false;
  const status = document.createElement("p");
  async function turn() {
    clearTimeout(timer);
    if (ended) return;
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      if ((await ask()) === false) ended = true;
    } catch (problem) {
      if (problem.code !== "unreachable" && problem.status !== 503) {
        ended = true;
        throw problem;
      }
    } finally {
      running = false;
      if (!ended && !document.hidden) timer = setTimeout(turn, again ? 100 : seconds * 1000);
      again = false;
    }
  }
  document.addEventListener("visibilitychange", () => document.hidden || turn());
  return { first: turn(), now: turn, restart: () => { ended = false; return turn(); } };
}

// Calls `onEvent` with each new event of the job until the stream says it has ended.
export function follow(path, onEvent) {
  const source = new EventSource(path);
  const hear = (message) => {
    if (!message.data) return;
    onEvent(JSON.parse(message.data));
  };
  source.onmessage = hear;
  source.addEventListener("end", () => source.close());
  return { source, hear };
}
