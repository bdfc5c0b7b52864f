import { post } from "./api.js";

const form = document.getElementById("sign-in");
const problem = form.querySelector(".problem");

// Only a path of this service: anything else could lead a person who has just signed in elsewhere.
function wanted() {
  const next = new URL(new URLSearchParams(location.search).get("next") ?? "/jobs", location.origin);
  return next.origin === location.origin ? next.pathname + next.search : "/jobs";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.hidden = true;
  try {
    await post("/session", { key: form.key.value.trim() });
    location.assign(wanted());
  } catch (refusal) {
    problem.textContent = refusal.status === 401 ? "This key is not valid. It may have been revoked or have expired." : refusal.message;
    problem.hidden = false;
    form.key.focus();
    form.key.select();
  }
});
