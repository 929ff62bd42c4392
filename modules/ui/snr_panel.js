// Draws the noise schedule: the training curve, the levels a sampler visits, and where a run stands.
//
// Everything drawn comes from Python as arrays (t, alpha, sigma, snr, log_snr, alphas_cumprod); nothing
// is computed here but pixels. `element`, `props` and `watch` are given by gr.HTML. Texts from outside
// go in through textContent only.
const SVG = "http://www.w3.org/2000/svg";
const MEASURES = {
  log_snr: { title: "natural log of SNR", log: false },
  snr: { title: "SNR = ᾱ / (1 − ᾱ)", log: true },
  sigma: { title: "σ = √(1 − ᾱ)", log: true },
  alphas_cumprod: { title: "ᾱ (alphas_cumprod)", log: true },
};
const find = (selector) => element.querySelector(selector);
const plot = find(".snr-plot");
const state = {
  train: null, plan: null, compare: null, // from the server
  picture: null, // the levels of the picture on screen
  live: null, // the levels of the run in progress, and how far it has come
  shown: "plan", measure: "log_snr", axis: "log", point: null, T: 1000,
};

const make = (name, attributes = {}, parent = null) => {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (parent) parent.appendChild(node);
  return node;
};
const layers = Object.fromEntries(
  ["grid", "axes", "train", "rug", "compare", "walk", "cursor", "dots"].map((name) => [name, make("g", { class: name }, plot)])
);

const neat = (value) => {
  if (value === null || value === undefined) return "none";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 100000)) return value.toExponential(2).replace("-", "−").replace("e+", "e");
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 4;
  return value.toFixed(digits).replace("-", "−");
};
const level = (levels, i) => [
  ["call", `${i + 1} of ${levels.t.length}`],
  ["t", neat(levels.t[i])],
  ["ln SNR", levels.log_snr[i] === null ? "−∞" : neat(levels.log_snr[i])],
  ["SNR", neat(levels.snr[i])],
  ["σ", neat(levels.sigma[i])],
];

// The levels in front: the run in progress, the picture on screen, or the next picture.
const front = () => {
  if (state.shown === "live" && state.live) return state.live;
  if (state.shown === "picture" && state.picture) return state.picture;
  return state.plan;
};

const logarithmic = () => MEASURES[state.measure].log && state.axis === "log";
const series = (levels) => levels[state.measure];

const ticksFor = (low, high) => {
  if (logarithmic()) {
    const ticks = [];
    const stride = Math.max(1, Math.ceil((high - low) / 5));
    for (let power = Math.ceil(low / stride) * stride; power <= high; power += stride) ticks.push(power);
    if (ticks.length >= 2) return ticks;
  }
  const raw = (high - low) / 6;
  const base = Math.pow(10, Math.floor(Math.log10(raw)));
  const stride = [1, 2, 4, 5, 10].map((k) => k * base).find((k) => k >= raw);
  const ticks = [];
  for (let tick = Math.ceil(low / stride) * stride; tick <= high + 1e-9; tick += stride) ticks.push(Math.abs(tick) < 1e-9 ? 0 : tick);
  return ticks;
};
const tickName = (tick) => {
  if (!logarithmic()) return String(Number(tick.toPrecision(6))).replace("-", "−");
  const value = Math.pow(10, tick);
  if (Number.isInteger(tick) && (tick > 3 || tick < -2)) {
    const digits = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
    return "10" + String(tick).split("").map((letter) => digits[letter]).join("");
  }
  return String(Number(value.toPrecision(2)));
};

let scale = null;
const measureUp = () => {
  const width = Math.max(240, plot.clientWidth), height = Math.max(160, plot.clientHeight);
  const box = { left: 46, right: width - 12, top: 14, bottom: height - 34 };
  const place = (value) => (logarithmic() ? (value > 0 ? Math.log10(value) : null) : value);
  const values = [];
  for (const levels of [state.train, front(), state.compare]) {
    if (levels) for (const value of series(levels)) if (value !== null && place(value) !== null) values.push(place(value));
  }
  if (!values.length) values.push(0, 1);
  let low = Math.min(...values), high = Math.max(...values);
  const margin = (high - low || 1) * 0.05;
  low -= margin;
  high += margin;
  const x = (t) => box.left + (t / (state.T - 1)) * (box.right - box.left);
  const y = (value) => {
    const placed = value === null ? null : place(value);
    if (placed === null) return box.bottom; // no signal at all: it sits on the floor
    return box.bottom - ((placed - low) / (high - low)) * (box.bottom - box.top);
  };
  const yRaw = (placed) => box.bottom - ((placed - low) / (high - low)) * (box.bottom - box.top);
  scale = { width, height, box, x, y, yRaw, low, high };
  plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
};

const drawAxes = () => {
  const { box, x, yRaw, low, high } = scale;
  layers.grid.replaceChildren();
  layers.axes.replaceChildren();
  make("text", { x: box.right, y: box.top + 4, "text-anchor": "end", class: "title" }, layers.axes).textContent = MEASURES[state.measure].title;
  for (const tick of ticksFor(low, high)) {
    const y = yRaw(tick);
    make("line", { x1: box.left, x2: box.right, y1: y, y2: y }, layers.grid);
    make("text", { x: box.left - 8, y: y + 4, "text-anchor": "end" }, layers.axes).textContent = tickName(tick);
  }
  make("line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: "floor" }, layers.axes);
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const t = Math.round(share * (state.T - 1));
    const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
    make("text", { x: x(t), y: box.bottom + 16, "text-anchor": anchor }, layers.axes).textContent = t;
  }
  make("text", { x: box.left, y: box.bottom + 30, class: "end" }, layers.axes).textContent = "picture";
  make("text", { x: (box.left + box.right) / 2, y: box.bottom + 30, "text-anchor": "middle", class: "name" }, layers.axes).textContent = "t";
  make("text", { x: box.right, y: box.bottom + 30, "text-anchor": "end", class: "end" }, layers.axes).textContent = "noise";
};

const path = (levels) => {
  const values = series(levels);
  let trace = "", pen = "M";
  for (let i = 0; i < values.length; i++) {
    trace += `${pen}${scale.x(levels.t[i]).toFixed(1)} ${scale.y(values[i]).toFixed(1)}`;
    pen = "L";
  }
  return trace;
};

// Circles are kept and moved, so that a change of spacing can be followed by eye.
const place = (layer, levels, radius, decorate) => {
  const count = levels ? levels.t.length : 0;
  while (layer.childNodes.length > count) layer.lastChild.remove();
  while (layer.childNodes.length < count) make("circle", {}, layer);
  for (let i = 0; i < count; i++) {
    const dot = layer.childNodes[i];
    const value = series(levels)[i];
    dot.setAttribute("r", radius);
    dot.style.transform = `translate(${scale.x(levels.t[i]).toFixed(2)}px, ${scale.y(value).toFixed(2)}px)`;
    dot.dataset.t = levels.t[i];
    dot.dataset.snr = levels.snr[i];
    dot.dataset.logSnr = levels.log_snr[i] === null ? "-Infinity" : levels.log_snr[i];
    decorate(dot, i);
  }
  layer.classList.toggle("still", count > 120);
};

const draw = () => {
  measureUp();
  drawAxes();
  const { box, x } = scale;
  layers.train.replaceChildren();
  if (state.train) make("path", { d: path(state.train) }, layers.train);
  const levels = front();
  const many = levels ? levels.t.length : 0;
  const radius = many > 120 ? 1.8 : many > 60 ? 2.6 : many > 30 ? 3.4 : 4.2;
  const done = state.shown === "live" && state.live ? state.live.at : null;
  layers.rug.replaceChildren();
  if (levels) for (const t of levels.t) make("line", { x1: x(t), x2: x(t), y1: box.bottom, y2: box.bottom + 4 }, layers.rug);
  if (state.compare) for (const t of state.compare.t) make("line", { x1: x(t), x2: x(t), y1: box.bottom - 4, y2: box.bottom, class: "other" }, layers.rug);
  place(layers.compare, state.compare, radius * 0.86, () => {});
  const lit = done !== null ? (done < 0 ? null : done) : state.point;
  place(layers.dots, levels, radius, (dot, i) => {
    dot.classList.toggle("ahead", done !== null && i > done);
    dot.classList.toggle("lit", i === lit);
    if (i === lit) dot.setAttribute("r", radius + 2.2);
  });
  layers.cursor.replaceChildren();
  if (levels && lit !== null && lit < many) make("line", { x1: x(levels.t[lit]), x2: x(levels.t[lit]), y1: box.top, y2: box.bottom }, layers.cursor);
  tell(levels, lit);
};

const tell = (levels, lit) => {
  const title = MEASURES[state.measure].title;
  const readout = find(".snr-readout");
  if (state.refusal && state.shown === "plan") readout.textContent = state.refusal;
  else if (!levels) readout.textContent = "The schedule is being prepared…";
  else if (lit !== null && lit < levels.t.length) {
    readout.replaceChildren();
    for (const [name, value] of level(levels, lit)) {
      const item = document.createElement("span");
      const label = document.createElement("b");
      label.textContent = name;
      item.append(label, value);
      readout.appendChild(item);
    }
  } else {
    const last = levels.t.length - 1;
    const calls = `${last + 1} network call${last ? "s" : ""}`;
    readout.textContent = `${calls}, from SNR ${neat(levels.snr[0])} to ${neat(levels.snr[last])}`;
  }
  find(".snr-which").textContent = levels ? levels.label : "";
  find(".snr-compared").textContent = state.compare ? state.compare.label : "";
  find(".snr-legend .compared").hidden = !state.compare;
  find(".snr-source").hidden = !state.picture && !state.live;
  for (const button of element.querySelectorAll(".snr-source button")) {
    const mine = button.dataset.value === "plan" ? state.shown === "plan" : state.shown !== "plan";
    button.setAttribute("aria-pressed", String(mine));
  }
  find('.snr-source [data-value="picture"]').textContent = state.live ? "This run" : "This picture";
  for (const button of element.querySelectorAll('[data-group="axis"] button')) button.disabled = !MEASURES[state.measure].log;
  plot.setAttribute("aria-label", levels ? `${title} against t. ${levels.label}. ${readout.textContent}` : "Noise schedule");
  const table = find(".snr-table");
  if (table.open) fill(table);
};

const fill = (table) => {
  const body = table.querySelector("tbody");
  const levels = front();
  body.replaceChildren();
  if (!levels) return;
  for (let i = 0; i < levels.t.length; i++) {
    const row = body.insertRow();
    for (const value of [i + 1, levels.t[i], levels.log_snr[i], levels.snr[i], levels.sigma[i], levels.alphas_cumprod[i]]) {
      row.insertCell().textContent = Number.isInteger(value) ? value : neat(value);
    }
  }
};

const begin = (levels) => {
  state.live = { ...levels, at: -1 };
  state.shown = "live";
  state.point = null;
};
const take = (message) => {
  if (!message || typeof message !== "object") return;
  if (message.train) {
    state.train = message.train;
    state.T = message.train.T;
  }
  if ("refusal" in message) state.refusal = message.refusal;
  if ("plan" in message) {
    if (message.plan) state.plan = message.plan;
    if (state.shown === "picture" && message.fresh !== true) state.shown = "plan";
    state.point = null;
  }
  if (message.live) begin(message.live);
  if ("compare" in message) state.compare = message.compare;
  draw();
  if (message.plan) window.dispatchEvent(new CustomEvent("studio", { detail: { planned: true } }));
};

// A changed control is answered at once, the newest one alone; what gradio changes of the others waits a frame.
const frame = () => new Promise((go) => requestAnimationFrame(() => setTimeout(go)));
let asking = null, next = null, tab = null;
const answer = async () => {
  while (next) {
    const question = next;
    next = null;
    const message = await server.plan_levels(question).catch(() => ({ refused: "The studio does not answer: these are the levels from before." }));
    take(message.refused ? { refusal: message.refused } : message);
    await frame();
  }
  asking = null;
};
const walk = async (opened, names, sent) => {
  tab = opened || tab || names[0];
  const values = Object.fromEntries(names.map((name, i) => [name, sent[i]]));
  next = { ...values, strength: values[`strength of ${tab}`] ?? 1 };
  await (asking ??= answer());
  return sent;
};
const open = () => {
  if (window.epsilon) window.epsilon.walk = walk;
  else setTimeout(open, 50); // the page's own script is still to come
};
open();

// The gallery tells of steps, of the end of a run, and of the picture on screen.
const hear = ({ detail }) => {
  if (!element.isConnected) {
    window.removeEventListener("studio", hear);
    return;
  }
  if (detail.live) begin(detail.live);
  if ("call" in detail && state.live) state.live.at = detail.call;
  if (detail.over) {
    state.live = null;
    if (state.shown === "live") state.shown = state.picture ? "picture" : "plan";
  }
  if (detail.picture) {
    state.picture = detail.picture;
    state.point = null;
    if (!state.live) state.shown = "picture";
  }
  if ("point" in detail) { // the step that is looked at
    if (state.picture && !state.live && detail.point !== null) state.shown = "picture";
    state.point = state.shown === "picture" ? detail.point : null;
  }
  draw();
};

for (const group of element.querySelectorAll("[data-group]")) {
  group.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button || button.disabled) return;
    const name = group.dataset.group;
    if (name === "shown") state.shown = button.dataset.value === "plan" ? "plan" : state.live ? "live" : "picture";
    else {
      state[name] = button.dataset.value;
      for (const other of group.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
    }
    state.point = null;
    draw();
  });
}
const pointAt = (event) => {
  const levels = front();
  if (!levels || !scale) return;
  const box = plot.getBoundingClientRect();
  const x = event.clientX - box.left, y = event.clientY - box.top;
  let best = null, least = 30 * 30;
  for (let i = 0; i < levels.t.length; i++) {
    const away = (scale.x(levels.t[i]) - x) ** 2 + (scale.y(series(levels)[i]) - y) ** 2;
    if (away < least) [best, least] = [i, away];
  }
  if (best === state.point) return;
  state.point = best;
  draw();
};
plot.addEventListener("pointermove", pointAt);
plot.addEventListener("pointerdown", (event) => {
  pointAt(event);
  if (state.shown === "picture" && state.point !== null) window.dispatchEvent(new CustomEvent("studio", { detail: { pick: state.point } }));
});
plot.addEventListener("pointerleave", () => { state.point = null; draw(); });
plot.addEventListener("keydown", (event) => {
  const levels = front();
  const way = { ArrowRight: -1, ArrowLeft: 1, Home: -Infinity, End: Infinity }[event.key];
  if (!levels || way === undefined) return;
  event.preventDefault();
  const start = state.point === null ? (way > 0 ? -1 : levels.t.length) : state.point;
  state.point = Math.min(levels.t.length - 1, Math.max(0, start + way));
  draw();
});
plot.addEventListener("blur", () => { state.point = null; draw(); });
find(".snr-table").addEventListener("toggle", () => fill(find(".snr-table")));
new ResizeObserver(() => draw()).observe(plot);
window.addEventListener("studio", hear);
watch("value", () => take(props.value));
take(props.value);
draw();
