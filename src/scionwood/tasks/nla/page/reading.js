"use strict";
const reading = JSON.parse(document.getElementById("reading").textContent);
const tokens = reading.tokens;
const byId = (id) => document.getElementById(id);
const number = (value, digits) => (value === null ? "–" : value.toFixed(digits));
const norms = tokens.map((t) => t.norm).sort((a, b) => a - b);
const middle = norms[Math.floor(norms.length / 2)] || 1;
let chosen = -1, shade = "centred";

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function pairs(list, rows, wrap) {
  list.replaceChildren(...rows.flatMap(([name, value]) => {
    const both = [make("dt", name), make("dd", value)];
    if (!wrap) return both;
    const box = make("div");
    box.append(...both);
    return [box];
  }));
}

// How strongly a token is shaded, from -1 to 1.
function strength(token) {
  if (shade === "norm") return Math.max(-1, Math.min(1, Math.log(token.norm / middle) / Math.log(3)));
  const value = token[shade];
  return value === null ? 0 : Math.max(-1, Math.min(1, value));
}

const explained = {
  fve: "Blue: the words bring back more of the vector than the mean does. Orange: less than the mean.",
  centred: "Blue: the vector made of the words departs from the mean where the true one does. Orange: the other way.",
  norm: "Blue: longer than the median vector of this text. Orange: shorter. Full colour is three times.",
};

const doubtful = (t) => t.marks.some((m) => m === "early" || m.endsWith("outlier"));

const buttons = tokens.map((token, i) => {
  const button = make("button", undefined, `token ${token.role}${doubtful(token) ? " doubtful" : ""}`);
  button.type = "button";
  button.setAttribute("role", "option");
  button.setAttribute("aria-selected", "false");
  button.setAttribute("aria-label", [`token ${i}`, token.text.trim() || "blank", ...token.marks].join(", "));
  button.tabIndex = -1;
  if (token.text === "") button.append(make("span", "·", "sign"));
  token.text.split(/(\n)/).forEach((part) => {
    if (part === "\n") button.append(make("span", "⏎", "sign"));
    else if (part) button.append(part);
  });
  button.addEventListener("click", () => choose(i, true));
  return button;
});
buttons.forEach((button, i) => {
  byId("tokens").append(button);
  if (tokens[i].text.endsWith("\n")) byId("tokens").append(make("br"));
});

const SVG = "http://www.w3.org/2000/svg";
function draw(tag, attributes, parent) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.append(element);
  return element;
}

function strip() {
  const width = tokens.length, svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} 74`);
  svg.setAttribute("preserveAspectRatio", "none");
  tokens.forEach((token, i) => {
    const s = strength(token), height = Math.max(1, Math.abs(s) * 33);
    const bar = draw("rect", { x: i + .08, width: .84, y: s >= 0 ? 37 - height : 37, height, opacity: doubtful(token) ? .4 : 1 }, svg);
    bar.style.fill = `rgb(var(--${s >= 0 ? "up" : "down"}))`;
    if (i === chosen) draw("rect", { x: i, width: 1, y: 0, height: 74, opacity: .16 }, svg).style.fill = "var(--ink)";
  });
  const zero = draw("line", { x1: 0, x2: width, y1: 37, y2: 37, "stroke-width": 1, "vector-effect": "non-scaling-stroke" }, svg);
  zero.style.stroke = "var(--grid)";
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    choose(Math.max(0, Math.min(width - 1, Math.floor((event.clientX - box.left) / box.width * width))), false);
  });
  byId("strip").replaceChildren(svg);
}

function paint() {
  buttons.forEach((button, i) => {
    const s = strength(tokens[i]);
    button.style.setProperty("--hue", `var(--${s >= 0 ? "up" : "down"})`);
    button.style.setProperty("--strength", (Math.abs(s) * .42).toFixed(3));
  });
  byId("key").textContent = explained[shade] + " Dotted underline: a position that is read badly.";
  strip();
}

function choose(i, focus) {
  if (chosen >= 0) {
    buttons[chosen].setAttribute("aria-selected", "false");
    buttons[chosen].tabIndex = -1;
  }
  chosen = i;
  const token = tokens[i], button = buttons[i];
  button.setAttribute("aria-selected", "true");
  button.tabIndex = 0;
  if (focus) button.focus();
  byId("where").textContent = `Token ${i} of ${tokens.length - 1}`;
  byId("which").textContent = token.text === "" ? "part of a character" : token.text.replaceAll("\n", "⏎");
  byId("said").textContent = token.said || "Nothing was said.";
  byId("said").className = token.said ? "" : "none";
  byId("marks").textContent = token.marks.length ? `Take care: ${token.marks.join(", ")}.` : "";
  pairs(byId("facts"), [
    ["FVE", number(token.fve, 3)], ["centred cosine", number(token.centred, 3)], ["cosine", number(token.cos, 3)],
    [`norm at layer ${reading.layer}`, `${number(token.norm, 1)} (median ${number(middle, 1)})`],
    ["belongs to", token.role === "template" ? "the chat template" : token.role === "reply" ? "the model's reply" : "the text"],
    ["token id", String(token.id)],
  ]);
  history.replaceState(null, "", `#t${i}`);
  strip();
}

// The token on the next or last line that stands closest above or below.
function beside(i, down) {
  const at = buttons[i].getBoundingClientRect(), middleX = at.left + at.width / 2;
  let best = i, far = Infinity;
  buttons.forEach((button, j) => {
    const box = button.getBoundingClientRect(), step = down ? box.top - at.top : at.top - box.top;
    if (step < at.height / 2) return;
    const distance = step * 1000 + Math.abs(box.left + box.width / 2 - middleX);
    if (distance < far) [best, far] = [j, distance];
  });
  return best;
}

byId("tokens").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const to = {
    ArrowRight: () => Math.min(chosen + 1, tokens.length - 1), ArrowLeft: () => Math.max(chosen - 1, 0),
    ArrowDown: () => beside(chosen, true), ArrowUp: () => beside(chosen, false), Home: () => 0, End: () => tokens.length - 1,
  }[event.key];
  if (!to) return;
  event.preventDefault();
  choose(to(), true);
});

document.querySelectorAll("input[name=shade]").forEach((input) => input.addEventListener("change", () => {
  shade = input.value;
  paint();
}));

const good = tokens.filter((t) => !doubtful(t)).length;
pairs(byId("figures"), [
  ["base", reading.base], ["layer", `output of block ${reading.layer}`], ["tokens", `${tokens.length}, ${good} of them reliable`],
  ...(reading.mean_fve === null ? [] : [
    [`mean FVE (D = ${number(reading.denominator, 3)}, ${reading.against})`, number(reading.mean_fve, 3)],
    ["mean centred cosine (cosine)", `${number(reading.mean_centred, 3)} (${number(reading.mean_cos, 3)})`],
  ]),
  ...(reading.own_fve === null ? [] : [["FVE against these tokens' own mean", number(reading.own_fve, 3)]]),
  ["verbalizer", reading.verbalizer], ...(reading.reconstructor ? [["reconstructor", reading.reconstructor]] : []),
], true);

const asked = /^#t(\d+)$/.exec(location.hash);
const first = tokens.findIndex((t) => !doubtful(t) && t.role === "text");
if (tokens.every((t) => t.fve === null)) {
  shade = "norm";
  document.querySelectorAll("input[name=shade]").forEach((input) => {
    input.checked = input.value === "norm";
    input.disabled = input.value !== "norm";
  });
}
choose(asked && Number(asked[1]) < tokens.length ? Number(asked[1]) : Math.max(first, 0), false);
paint();
