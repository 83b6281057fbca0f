"use strict";
// The page of a session: one request for all that is known, then one event for every tick. Nothing is loaded from anywhere else.

const $ = (id) => document.getElementById(id);
const NAMES = { E: "energy", I: "integrity", S: "entropy", V: "void" };
const KEEP = 900, SHOWN = 240, AFRESH = 40, AGAIN = 3000;  // ticks kept, ticks drawn, expressions listed, ms
const SVG = "http://www.w3.org/2000/svg";
let known = null, ticks = [], arrived = 0, apart = 2000;

const words = (name) => name.replaceAll("_", " ");
const clock = (t) => new Date(t * 1000).toLocaleTimeString("en-GB");

function element(tag, attributes = {}, ...inside) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  e.append(...inside);
  return e;
}

function drawn(tag, attributes, text) {
  const e = document.createElementNS(SVG, tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
}

function chip(token) {
  return element("span", { class: "token", style: `--c:${known.colours[token]}` }, words(token));
}

// -- curves -----------------------------------------------------------------------------------------------------------

function runs(of) {
  const out = [];
  of.forEach((tick, k) => {
    const last = out.at(-1);
    if (last && last.shape === tick.shape) last.to = k; else out.push({ shape: tick.shape, from: k, to: k });
  });
  return out;
}

function curves() {
  const svg = $("curves"), width = svg.clientWidth, height = 330, left = 84, right = 52, strip = 22, row = (height - strip - 28) / 4;
  const of = ticks.slice(-SHOWN), x = (k) => left + (width - left - right) * (of.length > 1 ? k / (of.length - 1) : 1);
  const parts = [], half = of.length > 1 ? (x(1) - x(0)) / 2 : 4;
  for (const r of runs(of)) {
    const a = Math.max(left, x(r.from) - half), b = Math.min(width - right, x(r.to) + half), colour = `var(--${r.shape})`;
    parts.push(drawn("rect", { class: "band", x: a, y: 0, width: Math.max(0, b - a), height: 4 * row, fill: colour }));
    const name = drawn("rect", { class: "strip", x: a + .5, y: 4 * row + 5, width: Math.max(0, b - a - 1), height: strip, fill: colour });
    name.append(drawn("title", {}, `${words(r.shape)}: ${known.shapes[r.shape]}`));
    parts.push(name);
    const label = words(r.shape);
    if (b - a > label.length * 6.3 + 10)
      parts.push(drawn("text", { class: `strip-name ${r.shape}-name`, x: (a + b) / 2, y: 4 * row + 20, "text-anchor": "middle" }, label));
  }
  Object.keys(NAMES).forEach((d, i) => {
    const values = of.map((tick) => tick.state[i]), top = i * row + 8, tall = row - 16;
    let low = Math.min(...values), high = Math.max(...values);
    const least = d === "V" ? .03 : .1, middle = (low + high) / 2;
    if (high - low < least) { low = Math.max(0, middle - least / 2); high = low + least; }
    const y = (v) => top + tall * (1 - (v - low) / (high - low));
    parts.push(drawn("line", { x1: left, x2: width - right, y1: (i + 1) * row, y2: (i + 1) * row }));
    parts.push(drawn("text", { class: "name", x: 0, y: top + tall / 2 + 4, style: `fill:var(--${d})` }, `${d} ${NAMES[d]}`));
    parts.push(drawn("path", { d: "M" + values.map((v, k) => `${x(k).toFixed(1)},${y(v).toFixed(1)}`).join("L"), stroke: `var(--${d})` }));
    parts.push(drawn("text", { class: "now", x: width - right + 8, y: y(values.at(-1)) + 4, style: `fill:var(--${d})` }, values.at(-1).toFixed(3)));
  });
  for (const [k, anchor] of of.length > 1 ? [[0, "start"], [of.length - 1, "end"]] : [])
    parts.push(drawn("text", { x: x(k), y: height - 2, "text-anchor": anchor }, clock(of[k].t)));
  const cross = drawn("line", { class: "cross", y1: 0, y2: 4 * row, visibility: "hidden" });
  svg.replaceChildren(...parts, cross);
  $("legend").replaceChildren(...Object.keys(known.shapes).filter((s) => of.some((tick) => tick.shape === s)).map((s) =>
    element("li", { title: known.shapes[s] }, element("span", { class: "swatch", style: `background:var(--${s})` }), words(s))));
  svg.onpointermove = (event) => {
    const at = (event.clientX - svg.getBoundingClientRect().left - left) / (width - left - right);
    const tick = of[Math.round(Math.min(1, Math.max(0, at)) * (of.length - 1))];
    if (!tick) return;
    const place = x(of.indexOf(tick));
    for (const [k, v] of [["x1", place], ["x2", place], ["visibility", "visible"]]) cross.setAttribute(k, v);
    $("caption").textContent = `${clock(tick.t)}: ` + Object.keys(NAMES).map((d, i) => `${d} ${tick.state[i].toFixed(3)}`).join(", ") +
      `; ${words(tick.shape)}, ${tick.verdict}.`;
  };
  svg.onpointerleave = () => { cross.setAttribute("visibility", "hidden"); caption(); };
}

function caption() {
  const tick = ticks.at(-1);
  $("caption").textContent = `${words(tick.shape)}: ${known.shapes[tick.shape]}. Seen in this window: ${tick.verdict}.`;
}

// -- the body ---------------------------------------------------------------------------------------------------------

function lamps() {
  const tick = ticks.at(-1);
  if (tick) {
    const k = Math.min(tick.lights.length - 1, Math.floor((performance.now() - arrived) / Math.max(apart, 1) * tick.lights.length));
    tick.lights[k].forEach(([colour, brightness, seen], i) => {
      const led = $("leds").children[i], glow = Math.min(1, brightness / .12);
      led.style.backgroundColor = seen;
      led.style.boxShadow = `0 0 ${6 + 14 * glow}px ${1 + 4 * glow}px ${seen}, 0 0 ${20 + 50 * glow}px ${4 + 14 * glow}px ${colour}${Math.round(30 + 90 * glow).toString(16).padStart(2, "0")}`;
    });
  }
  setTimeout(lamps, 120);
}

function body(tick) {
  $("drawing").src = `/drawing.png?n=${tick.n}`;
  const d = tick.drawing;
  $("arc").textContent = `drawing ${d.sheet}, ${d.phase}: ${d.gestures} gestures, now ${d.gesture}`;
  $("leds").setAttribute("aria-label", "three LEDs: " + tick.lights[0].map(([colour, brightness]) => `${colour} at ${(100 * brightness).toFixed(0)} %`).join(", "));
}

function expressed(e) {
  $("voice").textContent = e.said;
  $("tokens").replaceChildren(...e.tokens.map(chip));
  $("pattern").textContent = e.pattern;
}

// -- why --------------------------------------------------------------------------------------------------------------

const TITLES = { pattern: "pattern", token1: "first token", token2: "second token", token3: "third token" };

function bars(title, odds, chosen) {
  const box = element("div", {}, element("h3", {}, title));
  const few = Object.entries(odds).sort((a, b) => b[1] - a[1]);
  const shown = few.slice(0, 5);
  if (chosen in odds && !shown.some(([k]) => k === chosen)) shown[4] = [chosen, odds[chosen]];
  for (const [name, p] of shown)
    box.append(element("div", { class: name === chosen ? "bar chosen" : "bar" }, element("span", {}, words(name).toLowerCase()),
      element("b", { style: `width:${Math.max(1, 100 * p / Math.max(shown[0][1], .001)).toFixed(1)}%` }), element("span", {}, `${(100 * p).toFixed(0)} %`)));
  return box;
}

function why(e) {
  const w = e.why, chosen = { pattern: e.pattern, token1: e.tokens[0], token2: e.tokens[1], token3: e.tokens[2] ?? "none" };
  const table = element("table", { class: "numbers" });
  table.append(element("tr", {}, element("th", {}, ""), ...Object.keys(NAMES).map((d) => element("th", { scope: "col" }, d))));
  for (const [title, prefix] of [["mean", "mean_"], ["change per second", "d"], ["its change", "d2"]])
    table.append(element("tr", {}, element("th", { scope: "row" }, title),
      ...Object.keys(NAMES).map((d) => element("td", {}, w.numbers[prefix + d].toFixed(prefix === "mean_" ? 3 : 4)))));
  $("why").replaceChildren(
    element("p", {}, "It spoke because ", element("strong", {}, w.occasion.replaceAll("_", " ")), "."),
    element("p", {}, element("span", { class: "swatch", style: `background:var(--${e.shape})` }), element("strong", {}, words(e.shape)),
      `: ${known.shapes[e.shape]}. In this window, ${w.verdict}.`),
    element("div", { class: "odds" }, ...Object.entries(w.odds).map(([forest, odds]) => bars(TITLES[forest], odds, chosen[forest]))),
    element("details", {}, element("summary", {}, "the twelve numbers that the student was given"), table));
}

function log() {
  $("log").replaceChildren(...known.said.slice(-AFRESH).reverse().map((e) => element("li", {}, element("time", {}, clock(e.t)),
    element("span", {}, element("span", { class: "swatch", style: `background:var(--${e.shape})` }), words(e.shape)),
    element("span", {}, ...e.tokens.map(chip)), element("span", { class: "said" }, e.said))));
}

const UNITS = [["_pct", "%", 1], ["_c", "°C", 1], ["_hpa", "hPa", 1], ["_lux", "lux", 0], ["_ms_s", "ms/s", 1], ["bytes_s", "kB/s", 1, 1000], ["_s", "/s", 0]];

function senses(tick) {
  $("senses").replaceChildren(...Object.entries(known.fields).flatMap(([name, about]) => {
    const value = tick.reading[name], [, unit, places, over = 1] = UNITS.find(([end]) => name.endsWith(end));
    const title = words(name.slice(0, name.length - (UNITS.find(([end]) => name.endsWith(end))[0].replace("bytes", "").length)));
    const dd = value === null ? element("dd", { class: "none", title: tick.reasons[name] ?? "" }, "not felt")
      : element("dd", {}, `${(value / over).toFixed(places)} ${unit}`);
    return [element("dt", { title: about }, title.replace("pct", "")), dd];
  }));
}

// -- the stream -------------------------------------------------------------------------------------------------------

let waiting = false;
function paint() {
  waiting = false;
  const tick = ticks.at(-1);
  if (!tick) return;
  curves(); caption(); body(tick); senses(tick);
  $("status").textContent = `live, ${clock(tick.t)}`;
}

function soon() {
  if (!waiting) { waiting = true; requestAnimationFrame(paint); }
}

function take(tick) {
  if (ticks.length && tick.n <= ticks.at(-1).n) return;
  const now = performance.now();
  if (arrived) apart = .7 * apart + .3 * Math.min(10000, now - arrived);
  arrived = now;
  ticks.push(tick);
  if (ticks.length > KEEP) ticks.shift();
  if (tick.expressed) {
    known.said.push(tick.expressed);
    if (known.said.length > AFRESH) known.said.shift();
    expressed(tick.expressed); why(tick.expressed); log();
  }
  soon();
}

// After every break all is asked for anew: where the body was started again, it counts its ticks from one.
async function begin() {
  const answer = await fetch("/state.json").catch(() => null);
  if (!answer) return lost();
  known = await answer.json();
  $("source").textContent = known.source;
  ticks = known.ticks;
  const last = known.said.at(-1);
  if (last) { expressed(last); why(last); log(); }
  soon();
  const stream = new EventSource(`/events?after=${ticks.at(-1)?.n ?? 0}`);
  stream.onopen = () => { $("dot").classList.add("on"); };
  stream.onmessage = (event) => take(JSON.parse(event.data));
  stream.onerror = () => { stream.close(); lost(); };
}

function lost() {
  $("dot").classList.remove("on");
  $("status").textContent = "not connected; trying again";
  setTimeout(start, AGAIN);
}

function start() {
  begin().catch((e) => { $("status").textContent = `cannot be shown: ${e.message}`; });
}

lamps();
addEventListener("resize", soon);
start();
