// Fetches the page anew every two seconds while it is visible and nothing in it is being edited or read.
const main = document.querySelector("main"), lost = document.getElementById("lost");
const isBusy = () => document.hidden || main.contains(document.activeElement) || main.querySelector("details[open]");
async function refresh() {
  if (isBusy()) return;
  try {
    const reply = await fetch("/", { headers: { Accept: "text/html" }, cache: "no-store" });
    if (!reply.ok) throw new Error(reply.status);
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    if (isBusy()) return;
    main.replaceChildren(...page.querySelector("main").childNodes);
    document.title = page.title;
    document.body.classList.remove("stale");
  } catch {
    // The figures stay, greyed: a frozen page that looks alive would be worse.
    if (!document.body.classList.contains("stale")) {
      lost.textContent = "Not reachable since " + new Date().toLocaleTimeString();
      document.title = "○ not reachable";
    }
    document.body.classList.add("stale");
  }
}
setInterval(refresh, 2000);
