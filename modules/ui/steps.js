// The steps of the picture on screen: a scrubber over what the network was given and had in mind.
//
// The gallery tells which picture is on screen; which call is looked at is told to the noise schedule, whose
// dot of that call is lit. Frames are asked for some at a time, the nearest first, and kept in the page.
const find = (selector) => element.querySelector(selector);
const fold = find(".fold"), range = find(".scrub input"), norms = find(".norms");
const state = { picture: null, run: null, view: "steps", raw: "", place: 0, frames: new Map(), asking: false, playing: null };
const AT_ONCE = 6, PACE = 140;

const tell = (detail) => window.dispatchEvent(new CustomEvent("studio", { detail }));
const say = (text) => { find(".tell").textContent = text; };
const neat = (value) => (value === null ? "∞" : Math.abs(value) < 1e-6 ? "0" : Number(value.toPrecision(3)).toString().replace("-", "−").replace("e+", "e"));
const views = () => state.run.views[state.view];
const key = (place) => `${state.view} ${state.raw} ${place}`;

const ask = async (question, asked = {}) => {
  try {
    const answer = await server[question]({ path: state.picture.file.path, ...asked });
    if (!answer.refused) return answer;
    say(answer.refused);
  } catch {
    say("The studio does not answer.");
  }
  return null;
};

const panes = () => {
  const figures = views().map(([name, title]) => {
    const figure = document.createElement("figure"), image = document.createElement("img"), words = document.createElement("figcaption");
    image.alt = words.textContent = title;
    image.dataset.name = name;
    if (state.raw || name === "heat") image.dataset.sharp = "";
    figure.append(image, words);
    return figure;
  });
  find(".panes").replaceChildren(...figures);
};

const drawNorms = () => {
  norms.toggleAttribute("hidden", state.view !== "guidance" || !views().length);
  if (norms.hasAttribute("hidden")) return;
  const width = Math.max(200, norms.clientWidth), height = 96, left = 40, right = width - 8, top = 12, floor = height - 18;
  const { moments, total } = state.run;
  const most = Math.max(...moments.map((one) => one.norm)) || 1;
  const x = (one) => (total > 1 ? left + (one.index / (total - 1)) * (right - left) : left);
  const y = (one) => floor - (one.norm / most) * (floor - top);
  const here = moments[state.place];
  const trace = moments.map((one, i) => `${i ? "L" : "M"}${x(one).toFixed(1)} ${y(one).toFixed(1)}`).join("");
  norms.setAttribute("viewBox", `0 0 ${width} ${height}`);
  norms.setAttribute("aria-label", `Size of guidance over the calls, at most ${neat(most)}; here ${neat(here.norm)}`);
  const make = (name, attributes, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [attribute, value] of Object.entries(attributes)) node.setAttribute(attribute, value);
    node.textContent = text;
    return node;
  };
  norms.replaceChildren(
    make("line", { x1: left, x2: right, y1: floor, y2: floor }),
    make("text", { x: left - 6, y: top + 4, "text-anchor": "end" }, neat(most)),
    make("text", { x: left - 6, y: floor + 4, "text-anchor": "end" }, "0"),
    make("text", { x: left, y: height - 3 }, "first call"),
    make("text", { x: right, y: height - 3, "text-anchor": "end" }, "last"),
    make("path", { d: trace }),
    make("circle", { cx: x(here), cy: y(here), r: 4.5 }),
  );
};

const draw = () => {
  const { moments, total } = state.run, here = moments[state.place];
  range.value = state.place;
  find(".call").textContent = `call ${here.index + 1} of ${total}`;
  range.setAttribute("aria-valuetext", find(".call").textContent);
  const added = state.view === "guidance" ? `, guidance adds ${neat(here.norm)}` : "";
  find(".level").textContent = `t ${neat(here.t)}, SNR ${neat(here.snr)}${added}`;
  const frame = state.frames.get(key(state.place));
  if (frame) for (const image of element.querySelectorAll(".panes img")) image.src = frame[image.dataset.name];
  drawNorms();
  tell({ point: here.index });
};

// The frame that is looked at first, then those after it, round to those before.
const wanted = () => {
  const count = state.run.moments.length, places = [];
  for (let i = 0; i < count && places.length < AT_ONCE; i++) {
    const place = (state.place + i) % count;
    if (!state.frames.has(key(place))) places.push(place);
    if (places.length && !state.frames.has(key(state.place)) && i === 0) break; // alone: it comes soonest
  }
  return places;
};
const fetchFrames = async () => {
  if (state.asking) return;
  state.asking = true;
  while (state.run && fold.open && element.isConnected && views().length) {
    const { run, view, raw } = state, places = wanted();
    if (!places.length) break;
    const answer = await ask("show_steps", { places, names: views().map(([name]) => name), raw: Boolean(raw) });
    if (!answer || !Object.keys(answer.frames).length) break;
    if (run !== state.run) continue;
    for (const [place, frame] of Object.entries(answer.frames)) state.frames.set(`${view} ${raw} ${place}`, frame);
    if (view === state.view && raw === state.raw && String(state.place) in answer.frames) draw();
  }
  state.asking = false;
};

const stop = () => {
  clearInterval(state.playing);
  state.playing = null;
  find(".play").textContent = "▶";
  find(".play").setAttribute("aria-label", "Play the steps");
};
const go = (place) => {
  state.place = Math.max(0, Math.min(state.run.moments.length - 1, place));
  draw();
  fetchFrames();
};
const look = () => {
  find(".walk").hidden = !state.run;
  if (!state.run) return;
  for (const why of element.querySelectorAll(".why")) why.hidden = why.dataset.for !== state.view;
  for (const button of element.querySelectorAll(".seg button")) {
    const group = button.closest(".seg").dataset.group;
    button.setAttribute("aria-pressed", String(button.dataset.value === state[group]));
  }
  say(views().length ? "" : "The network was asked once a call: guidance of 1, or no prompt, leaves nothing to compare.");
  panes();
  range.max = state.run.moments.length - 1;
  go(state.place);
};

const load = async () => {
  stop();
  Object.assign(state, { run: null, frames: new Map() });
  if (!fold.open) return;
  if (!state.picture) {
    look();
    return say("Make a picture first: its steps are kept.");
  }
  const { picture } = state, answer = await ask("find_steps");
  if (picture !== state.picture) return;
  state.run = answer;
  if (answer) state.place = answer.moments.length - 1;
  look();
};

fold.addEventListener("toggle", () => {
  if (fold.open) load();
  else {
    stop();
    tell({ point: null });
  }
});
range.addEventListener("input", () => { stop(); go(Number(range.value)); });
for (const group of element.querySelectorAll(".seg")) {
  group.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    state[group.dataset.group] = button.dataset.value;
    look();
  });
}
find(".play").addEventListener("click", () => {
  if (state.playing) return stop();
  if (state.place >= state.run.moments.length - 1) go(0);
  find(".play").textContent = "❚❚";
  find(".play").setAttribute("aria-label", "Pause");
  state.playing = setInterval(() => {
    if (!state.run || !element.isConnected || state.place >= state.run.moments.length - 1) return stop();
    if (state.frames.has(key(state.place + 1))) go(state.place + 1); // else it is still on its way
  }, PACE);
});
for (const button of element.querySelectorAll(".export")) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    const answer = await ask("export_steps", { how: button.dataset.how });
    button.disabled = false;
    if (!answer) return;
    const link = document.createElement("a");
    link.href = window.epsilon.address(answer.path);
    link.download = `steps-${state.picture.seed}.${button.dataset.how}`;
    link.click();
  });
}
const hear = ({ detail }) => {
  if (!element.isConnected) {
    stop();
    window.removeEventListener("studio", hear);
    return;
  }
  if (detail.onScreen) {
    state.picture = detail.onScreen;
    load();
  }
  if ("pick" in detail && state.run && fold.open) {
    const place = state.run.moments.findIndex((one) => one.index >= detail.pick);
    if (place >= 0) { stop(); go(place); }
  }
};
window.addEventListener("studio", hear);
new ResizeObserver(() => { if (state.run) drawNorms(); }).observe(norms);
