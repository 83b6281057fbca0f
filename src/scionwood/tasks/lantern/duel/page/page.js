"use strict";
// The rating page. The server decides what is shown and which side is which; here is nothing that could tell one model from the other.

const $ = (id) => document.getElementById(id);
const KEYS = { 1: "left", 2: "right", 0: "tie", s: "skip" };
const FLASH = 140;  // milliseconds in which the choice is seen before the next pair
let rater = "", pair = null, busy = false;

function show(id, on) { $(id).hidden = !on; }

async function ask(path, body) {
  const response = await fetch(path, body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const value = await response.json();
  if (!response.ok) throw new Error(value.error || `status ${response.status}`);
  return value;
}

function paint(state) {
  pair = state.pair;
  show("welcome", false); show("who", true); show("progress", true); show("trouble", false);
  show("duel", pair !== null); show("end", pair === null);
  $("rater").textContent = state.rater;
  $("bar").style.setProperty("width", `${state.total ? 100 * state.done / state.total : 100}%`);
  $("progress").setAttribute("aria-valuemax", state.total);
  $("progress").setAttribute("aria-valuenow", state.done);
  const round = state.rounds.of > 1 ? `, round ${state.rounds.at} of ${state.rounds.of}` : "";
  $("count").textContent = `${state.done} of ${state.total} rated${round}`;
  for (const id of ["undo", "undo-last"]) $(id).disabled = state.done === 0;
  if (pair === null) {
    $("end-text").textContent = `${state.done} pairs under the name ${state.rater}` + (state.skipped ? `, ${state.skipped} of them skipped.` : ".");
    return;
  }
  $("prompt").textContent = pair.prompt;
  for (const side of ["left", "right"]) {
    $(`${side}-text`).textContent = pair[side];
    $(`${side}-text`).scrollTop = 0;
    $(side).classList.remove("chosen");
  }
  if (scrollY > 0) scrollTo(0, 0);
}

async function act(work) {
  if (busy) return;
  busy = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    paint(await work());
  } catch (e) {
    for (const side of ["left", "right"]) $(side).classList.remove("chosen");
    $("trouble").textContent = e instanceof TypeError ? "The server does not answer. Start it again; nothing that was counted is lost." : e.message;
    show("trouble", true);
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
}

function choose(choice) {
  if (!pair) return;
  act(async () => {
    if (choice === "left" || choice === "right") $(choice).classList.add("chosen");
    const [state] = await Promise.all([ask("/rate", { rater, pair: pair.id, choice }), new Promise((done) => setTimeout(done, FLASH))]);
    return state;
  });
}

function undo() {
  if (rater) act(() => ask("/undo", { rater }));
}

function begin(name) {
  rater = name.trim().replace(/\s+/g, " ");
  if (!rater) return;
  try { localStorage.setItem("rater", rater); } catch { /* a browser that keeps nothing */ }
  act(() => ask(`/state?rater=${encodeURIComponent(rater)}`));
}

function welcome() {
  rater = ""; pair = null;
  for (const id of ["duel", "end", "who", "progress", "trouble"]) show(id, false);
  $("count").textContent = "";
  show("welcome", true);
  $("name").focus();
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.tagName === "INPUT" || !rater) return;
  const key = event.key.toLowerCase();
  if (key in KEYS) { event.preventDefault(); choose(KEYS[key]); }
  else if (key === "u") { event.preventDefault(); undo(); }
});
for (const button of document.querySelectorAll("[data-choice]")) button.addEventListener("click", () => { button.blur(); choose(button.dataset.choice); });
for (const id of ["undo", "undo-last"]) $(id).addEventListener("click", () => { $(id).blur(); undo(); });
$("change").addEventListener("click", welcome);
$("welcome").addEventListener("submit", (event) => { event.preventDefault(); begin($("name").value); });

let kept = "";
try { kept = localStorage.getItem("rater") || ""; } catch { /* a browser that keeps nothing */ }
if (kept) begin(kept); else welcome();
