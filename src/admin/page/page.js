// Fetches the page anew every two seconds while it is visible and nothing in it is being typed or read.
const main = document.querySelector("main"), note = document.getElementById("note");
const isUnsaved = (field) => field.value !== field.defaultValue;
const isHeld = () =>
  "held" in main.dataset ||
  main.contains(document.activeElement) ||
  main.querySelector("details[open]") ||
  [...main.querySelectorAll("textarea, input[type=text]")].some(isUnsaved);
function tell(state) {
  if (document.body.className === state) return;
  const told = { held: "Held still since ", stale: "Not reachable since " }[state];
  document.body.className = state;
  note.textContent = told ? told + new Date().toLocaleTimeString() : "";
}
async function refresh() {
  if (document.hidden || isHeld()) return document.hidden || tell("held");
  const options = { headers: { Accept: "text/html" }, cache: "no-store", signal: AbortSignal.timeout(5000) };
  const reply = await fetch("/", options);
  if (!reply.ok) throw new Error(reply.status);
  const page = new DOMParser().parseFromString(await reply.text(), "text/html");
  if (isHeld()) return;
  main.replaceChildren(...page.querySelector("main").childNodes);
  document.title = page.title;
  tell("");
}
async function again() {
  try {
    await refresh();
  } catch {
    // The figures stay, greyed: a frozen page that looks alive would be worse.
    tell("stale");
    document.title = "○ not reachable";
  }
  setTimeout(again, 2000);
}
setTimeout(again, 2000);
