// The frame where a picture forms, its recipe, and the strip of the pictures made lately.
//
// Messages come from Python (see gallery.py); the strip lives here, in the page. Every text goes in
// through textContent. Steps and choices are told to the noise schedule by "studio" events on the window.
const find = (selector) => element.querySelector(selector);
const frame = find(".frame");
const preview = find(".preview");
const finals = find(".finals");
const state = { runs: [], run: null, index: 0, busy: false };

const tell = (detail) => window.dispatchEvent(new CustomEvent("studio", { detail }));

const say = (text, kind = "") => {
  const status = find(".status");
  status.textContent = text;
  status.dataset.kind = kind;
};
const announce = (text) => { find(".announce").textContent = text; };

const progress = (share) => {
  const meter = find(".meter");
  meter.hidden = share === null;
  meter.setAttribute("aria-valuenow", Math.round((share || 0) * 100));
  meter.firstElementChild.style.transform = `scaleX(${share || 0})`;
};

const show = (phase) => { frame.dataset.phase = phase; };

const cell = (picture, index, chosen) => {
  const button = document.createElement("button");
  const image = document.createElement("img");
  button.type = "button";
  button.setAttribute("aria-label", `${picture.title}, seed ${picture.seed}`);
  button.setAttribute("aria-pressed", String(chosen));
  image.src = picture.file.url;
  image.alt = "";
  image.decoding = "async";
  button.appendChild(image);
  return button;
};

const drawFinals = () => {
  finals.replaceChildren();
  if (!state.run) return;
  const count = state.run.pictures.length;
  finals.style.setProperty("--columns", Math.ceil(Math.sqrt(count)));
  finals.dataset.count = count;
  state.run.pictures.forEach((picture, index) => {
    const button = cell(picture, index, index === state.index);
    button.addEventListener("click", () => {
      if (count === 1) window.open(picture.file.url, "_blank", "noopener");
      else choose(state.run, index);
    });
    if (count === 1) button.title = "Open at full size";
    finals.appendChild(button);
  });
};

const drawStrip = () => {
  const strip = find(".strip");
  strip.replaceChildren();
  for (const run of state.runs) {
    run.pictures.forEach((picture, index) => {
      const button = cell(picture, index, run === state.run && index === state.index);
      button.addEventListener("click", () => choose(run, index));
      strip.appendChild(button);
    });
  }
  const filled = strip.childNodes.length;
  find(".strip-count").textContent = filled ? `${filled} recent picture${filled > 1 ? "s" : ""}` : "";
};

const facts = (picture) => {
  const list = find(".facts");
  list.replaceChildren();
  for (const fact of picture.facts) {
    const item = document.createElement("li");
    const [name, value] = fact;
    if (name) {
      const label = document.createElement("span");
      label.textContent = name + " ";
      item.appendChild(label);
    }
    item.appendChild(document.createTextNode(value));
    list.appendChild(item);
  }
  const full = find(".full dl");
  full.replaceChildren();
  for (const [name, value] of picture.info) {
    const term = document.createElement("dt");
    const meaning = document.createElement("dd");
    term.textContent = name;
    meaning.textContent = value;
    full.append(term, meaning);
  }
};

const choose = (run, index, quietly = false) => {
  state.run = run;
  state.index = index;
  const picture = run.pictures[index];
  const recipe = find(".recipe");
  recipe.hidden = false;
  find(".said").textContent = picture.title;
  find(".said").title = picture.title;
  facts(picture);
  const save = find(".save");
  save.href = picture.file.url;
  save.download = picture.file.orig_name || "picture.png";
  if (!state.busy) {
    show("done");
    drawFinals();
    if (!quietly) say("");
  }
  drawStrip();
  tell({ picture: picture.levels, onScreen: picture });
};

const receive = (message) => {
  if (!message || typeof message !== "object") return;
  const { phase, text = "" } = message;
  if (phase === "accepted") {
    look();
    return;
  }
  if (phase === "note" || (phase === "refused" && !message.run && state.busy)) { // the run goes on
    say(text, phase);
    announce(text);
    state.held = Date.now() + 6000; // long enough to be read
    return;
  }
  if (message.run && message.run === state.over) return; // said again, or a late step of a run that was stopped
  if (phase === "waiting" || phase === "running") {
    state.current = message.run;
    if (!state.busy) {
      state.busy = true;
      announce("Generating");
      if (window.innerWidth <= 720) frame.scrollIntoView({ behavior: "smooth", block: "start" });
    }
    if (Date.now() > (state.held || 0)) say(text);
    progress(message.share || 0);
    if (message.preview) {
      preview.src = message.preview;
      show("running");
    } else show(state.run ? "again" : "waiting");
    if (phase === "running") tell({ call: message.call });
    return;
  }
  state.busy = false;
  state.held = 0;
  state.over = message.run || state.current;
  progress(null);
  if (phase === "done") {
    const run = { pictures: message.pictures };
    state.runs.unshift(run);
    tell({ over: true });
    choose(run, 0, true);
    say(text);
    announce(`Done. ${text}`);
  } else if (phase === "stopped" || phase === "refused") {
    tell({ over: true });
    say(text, phase);
    announce(text);
    if (phase === "stopped" && preview.src && frame.dataset.phase === "running") show("stopped");
    else show(state.run ? "done" : "empty");
    if (frame.dataset.phase === "done") drawFinals();
  }
};

// From the history: a picture to show, or pictures that are gone for good.
const forget = (names) => {
  for (const run of state.runs) run.pictures = run.pictures.filter((picture) => !names.includes(picture.file.orig_name));
  state.runs = state.runs.filter((run) => run.pictures.length);
  const picture = state.run && state.run.pictures[state.index];
  if (state.run && (!picture || names.includes(picture.file.orig_name))) {
    state.run = null;
    find(".recipe").hidden = true;
    if (!state.busy) show("empty");
  }
  drawStrip();
};
const hear = (event) => {
  if (!element.isConnected) {
    window.removeEventListener("studio", hear);
    return;
  }
  const { open, gone, submitted } = event.detail;
  if (submitted) look();
  if (gone) forget(gone);
  if (open) {
    choose({ pictures: [open] }, 0);
    frame.scrollIntoView({ behavior: "smooth", block: "nearest" });
  }
};
window.addEventListener("studio", hear);

// An empty frame shows what every picture starts from: Gaussian noise, in the page's own ink.
const pour = () => {
  const canvas = find(".blank canvas"), ink = getComputedStyle(element).color.match(/\d+/g).map(Number);
  const brush = canvas.getContext("2d"), image = brush.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < image.data.length; i += 4) {
    const normal = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    image.data.set([ink[0], ink[1], ink[2], Math.max(0, 40 + 46 * normal)], i);
  }
  brush.putImageData(image, 0, 0);
};
pour();

find(".reuse").addEventListener("click", () => trigger("select", { recipe: state.run.pictures[state.index].recipe, all: true }));
find(".keep").addEventListener("click", () => trigger("select", { recipe: state.run.pictures[state.index].recipe, all: false }));
for (const button of element.querySelectorAll(".send")) {
  button.addEventListener("click", () => {
    const { path } = state.run.pictures[state.index].file;
    trigger("select", { send: button.dataset.to, path });
  });
}
find(".copy").addEventListener("click", async (event) => {
  const button = event.currentTarget;
  const text = state.run.pictures[state.index].infotext;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "The browser refused";
  }
  setTimeout(() => { button.textContent = "Copy text"; }, 1500);
});
watch("value", () => receive(props.value));
receive(props.value);

// Jobs: the server is asked how they stand, and answers when that has changed, as long as there are any.
const line = { there: typeof server !== "undefined" && Boolean(server.look_at_jobs), asking: false, again: false, stamp: "", seen: null, live: null };
const SILENCE = 15000; // milliseconds after which an answer is not waited for any more

const press = (text, label, act, run) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.setAttribute("aria-label", label);
  button.dataset.key = `${text} ${run}`;
  button.addEventListener("click", () => act(run));
  return button;
};
const drawQueue = (queue) => {
  const focused = element.contains(document.activeElement) && document.activeElement.dataset.key;
  find(".queue").replaceChildren(...queue.map((job) => {
    const item = document.createElement("li"), title = document.createElement("span");
    const place = document.createElement("span");
    title.textContent = title.title = job.title;
    title.className = "waiting";
    title.dir = "auto";
    place.textContent = job.place;
    place.className = "place";
    item.append(title, place);
    if (!job.first) item.append(press("Sooner", `Paint ${job.title} sooner`, sooner, job.run));
    item.append(press("Remove", `Remove ${job.title} from the line`, stop, job.run));
    return item;
  }));
  if (focused) [...element.querySelectorAll("[data-key]")].find((one) => one.dataset.key === focused)?.focus();
};

const take = ({ stamp, seen, over, now, queue }) => {
  Object.assign(line, { stamp, seen });
  for (const message of [...over, now]) { // a run that is just ending brings its pictures as `now`
    for (const picture of message?.pictures || []) picture.file.url = window.epsilon.address(picture.file.path);
  }
  for (const message of over) {
    if (message.phase !== "done" && message.run !== state.current) continue; // it never reached the frame
    receive(message);
  }
  if (now) {
    if (now.live) tell({ live: now.live });
    line.live = now.live ? now.run : line.live;
    receive(now);
  } else if (state.busy) receive({ phase: "refused", text: "The studio was started anew, and this run is lost. Generate makes a new one.", run: state.current });
  find(".under .cancel").hidden = !now;
  drawQueue(queue);
  return Boolean(now);
};

const look = async () => {
  if (!line.there || !element.isConnected) return;
  line.again = true;
  if (line.asking || !window.epsilon) {
    if (!window.epsilon) setTimeout(look, 50); // the page's own script is still to come
    return;
  }
  line.asking = true;
  while (line.again && element.isConnected) {
    line.again = false;
    const question = { owner: window.epsilon.owner(), stamp: line.stamp, seen: line.seen, run: line.live };
    try {
      const silence = new Promise((_, fail) => { setTimeout(fail, SILENCE); });
      if (take(await Promise.race([server.look_at_jobs(question), silence]))) line.again = true;
    } catch {
      if (state.busy) say("The connection is lost; the run goes on, and is looked for again…");
      await new Promise((wake) => { setTimeout(wake, 1000); });
      line.again = line.again || state.busy;
    }
  }
  line.asking = false;
};
const order = (what, trouble) => async (run) => {
  try {
    await server[what]({ owner: window.epsilon.owner(), run });
  } catch {
    say(`The studio does not answer, so ${trouble}.`, "note");
  }
  look();
};
const stop = order("cancel_job", "nothing was stopped");
const sooner = order("move_job", "nothing was moved");
find(".under .cancel").addEventListener("click", () => stop(state.current));
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
window.addEventListener("online", () => look());
look();
