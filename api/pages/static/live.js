// Keeps a page up to date: by cheap polls, and at once when the event stream has news.

const POLL_SECONDS = 2;
const POLL_SECONDS_WITH_A_STREAM = 15;
const LEAST_MS = 400;

// Calls `ask` now and every so often, not while the page is out of sight, until `ask` returns false.
// `seconds` is a function: how long to wait for the next turn.
export function repeat(ask, seconds = () => POLL_SECONDS) {
  let timer = null;
  let state = "waiting"; // running, or running and asked again, or ended
  const wait = (ms) => {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(turn, ms);
  };
  async function turn() {
    if (state === "ended") return;
    if (state !== "waiting") {
      state = "again";
      return;
    }
    clearTimeout(timer);
    state = "running";
    try {
      // Asked again meanwhile, by a verb that has set an ended job going: what was read before that is no end.
      if ((await ask()) === false && state === "running") state = "ended";
    } catch (problem) {
      if (problem.code !== "unreachable" && problem.status !== 503) {
        state = "ended";
        throw problem;
      }
    } finally {
      if (state !== "ended") {
        wait(state === "again" ? LEAST_MS : seconds() * 1000);
        state = "waiting";
      }
    }
  }
  document.addEventListener("visibilitychange", () => document.hidden || turn());
  const restart = () => {
    if (state === "ended") state = "waiting";
    return turn();
  };
  return { first: turn(), now: turn, restart };
}

// Calls `onNews` for each event of the job and each change of its progress. A page out of sight gives its
// connection back: a browser has only a few for one host.
export function follow(path, onNews) {
  let source = null;
  let ended = false;
  const open = () => {
    if (ended || source !== null || document.hidden) return;
    source = new EventSource(path);
    source.onmessage = onNews;
    source.addEventListener("progress", onNews);
    source.addEventListener("end", () => {
      end();
      onNews();
    });
  };
  const close = () => {
    source?.close();
    source = null;
  };
  const end = () => {
    ended = true;
    close();
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  open();
  return { end, pollSeconds: () => (source?.readyState === EventSource.OPEN ? POLL_SECONDS_WITH_A_STREAM : POLL_SECONDS) };
}
