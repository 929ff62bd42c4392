// The easel: a picture, and paint over what may change in it.
//
// The picture goes to the server as a file, once. The mask lives in a canvas of at most 1024 pixels a side
// and goes along with the value as a black and white PNG after every stroke, so that a press on Generate
// never meets an older one. Strokes may begin and end beside the picture: its edges and corners are reachable.
const easel = element.querySelector(".easel");
const find = (selector) => easel.querySelector(selector);
const masked = easel.dataset.masked === "True";
const stage = find(".stage"), sheet = find(".sheet"), image = find(".sheet img"), canvas = find(".sheet canvas");
const cursor = find(".cursor"), mask = document.createElement("canvas");
const LONGEST = 1024, UNDO = 40;
const state = { held: null, erasing: false, stroke: null, before: [], spoken: null };

const say = (text) => { find(".trouble").textContent = text; };
const pen = () => mask.getContext("2d", { willReadFrequently: true });
const paint = () => getComputedStyle(easel).getPropertyValue("--accent") || "#b8430c";

// What the page shows: the mask as a veil in the accent colour.
const veil = () => {
  canvas.width = mask.width;
  canvas.height = mask.height;
  const brush = canvas.getContext("2d");
  brush.drawImage(mask, 0, 0);
  brush.globalCompositeOperation = "source-in";
  brush.fillStyle = paint();
  brush.fillRect(0, 0, canvas.width, canvas.height);
};

const painted = () => {
  const data = pen().getImageData(0, 0, mask.width, mask.height).data;
  for (let i = 3; i < data.length; i += 4) if (data[i] > 127) return true;
  return false;
};

// The mask as the server reads it: white where it was painted, black elsewhere.
const written = () => {
  if (!masked || !painted()) return null;
  const flat = document.createElement("canvas");
  flat.width = mask.width;
  flat.height = mask.height;
  const brush = flat.getContext("2d"), pixels = pen().getImageData(0, 0, mask.width, mask.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    pixels.data.fill(pixels.data[i + 3] > 127 ? 255 : 0, i, i + 3);
    pixels.data[i + 3] = 255;
  }
  brush.putImageData(pixels, 0, 0);
  return flat.toDataURL("image/png");
};

const tell = () => {
  state.spoken = { picture: state.held, mask: state.held ? written() : null };
  easel.dataset.painted = String(Boolean(state.spoken.mask));
  props.value = state.spoken;
};

const remember = () => {
  state.before.push(pen().getImageData(0, 0, mask.width, mask.height));
  if (state.before.length > UNDO) state.before.shift();
};

const show = (held) => {
  state.held = { path: held.path, url: held.url, orig_name: held.orig_name || "" };
  image.onload = () => {
    const wide = image.naturalWidth, high = image.naturalHeight;
    const scale = Math.min(1, LONGEST / Math.max(wide, high));
    const width = Math.max(1, Math.round(wide * scale)), height = Math.max(1, Math.round(high * scale));
    if (mask.width !== width || mask.height !== height) {
      mask.width = width;
      mask.height = height;
      state.before = [];
    }
    sheet.style.setProperty("--ratio", `${wide} / ${high}`);
    sheet.style.setProperty("--tall", wide / high);
    find(".size").textContent = `${wide} × ${high}`;
    find(".invite").hidden = true;
    sheet.hidden = false;
    find(".held").hidden = false;
    find(".tools").hidden = !masked;
    easel.dataset.state = "held";
    say("");
    veil();
    tell();
  };
  image.onerror = () => { say("That file could not be shown: choose a PNG, JPEG or WebP."); };
  image.src = held.url;
};

const bring = async (file) => {
  if (!file) return;
  if (!/^image\/(png|jpeg|webp)$/.test(file.type)) return say("That is no PNG, JPEG or WebP.");
  say("Bringing it here…");
  try {
    const { path, url } = await upload(file);
    show({ path, url, orig_name: file.name });
  } catch (error) {
    say("The picture did not arrive: it may be larger than 32 MB, or the connection broke.");
  }
};

const bringMask = (file) => {
  if (!file) return;
  const other = new Image();
  other.onload = () => {
    URL.revokeObjectURL(other.src);
    const [a, b] = [other.naturalWidth / other.naturalHeight, mask.width / mask.height];
    if (Math.abs(a / b - 1) > 0.02) return say(`A mask has the picture's shape; this one is ${other.naturalWidth} × ${other.naturalHeight}.`);
    remember();
    const draft = document.createElement("canvas");
    draft.width = mask.width;
    draft.height = mask.height;
    const brush = draft.getContext("2d");
    brush.imageSmoothingEnabled = false;
    brush.drawImage(other, 0, 0, mask.width, mask.height);
    const pixels = brush.getImageData(0, 0, mask.width, mask.height);
    let clear = false;
    for (let i = 3; i < pixels.data.length; i += 4) clear ||= pixels.data[i] < 255;
    for (let i = 0; i < pixels.data.length; i += 4) {
      const light = 0.299 * pixels.data[i] + 0.587 * pixels.data[i + 1] + 0.114 * pixels.data[i + 2];
      pixels.data[i + 3] = (clear ? pixels.data[i + 3] : light) >= 128 ? 255 : 0;
    }
    pen().putImageData(pixels, 0, 0);
    say("");
    veil();
    tell();
  };
  other.onerror = () => say("That file could not be read as a mask.");
  other.src = URL.createObjectURL(file);
};

// Strokes, in the mask's own pixels.
const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * mask.width, ((event.clientY - box.top) / box.height) * mask.height];
};
const width = () => (Number(find(".width input").value) / 100) * Math.max(mask.width, mask.height);

const draw = (from, to) => {
  const brush = pen();
  brush.globalCompositeOperation = state.erasing ? "destination-out" : "source-over";
  brush.lineCap = brush.lineJoin = "round";
  brush.lineWidth = width();
  brush.strokeStyle = "#fff";
  brush.beginPath();
  brush.moveTo(...from);
  brush.lineTo(to[0] + 0.01, to[1]);
  brush.stroke();
  brush.globalCompositeOperation = "source-over";
  veil();
};

const hover = (event) => {
  if (!masked || sheet.hidden || event.pointerType === "touch") return;
  const box = stage.getBoundingClientRect(), shown = canvas.getBoundingClientRect();
  const size = (width() / mask.width) * shown.width;
  cursor.hidden = false;
  cursor.style.cssText = `width:${size}px;height:${size}px;left:${event.clientX - box.left}px;top:${event.clientY - box.top}px`;
};

if (masked) {
  stage.addEventListener("pointerdown", (event) => {
    if (sheet.hidden || event.button !== 0 || event.target.closest("button")) return;
    event.preventDefault();
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    remember();
    state.stroke = place(event);
    draw(state.stroke, state.stroke);
  });
  stage.addEventListener("pointermove", (event) => {
    hover(event);
    if (!state.stroke) return;
    for (const part of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) {
      const next = place(part);
      draw(state.stroke, next);
      state.stroke = next;
    }
  });
  const lift = () => {
    if (!state.stroke) return;
    state.stroke = null;
    tell();
  };
  stage.addEventListener("pointerup", lift);
  stage.addEventListener("pointercancel", lift);
  stage.addEventListener("pointerleave", () => { cursor.hidden = true; });
}

const hold = (erasing) => {
  state.erasing = erasing;
  find(".brush").setAttribute("aria-pressed", String(!erasing));
  find(".eraser").setAttribute("aria-pressed", String(erasing));
};
const undo = () => {
  const last = state.before.pop();
  if (!last) return;
  pen().putImageData(last, 0, 0);
  veil();
  tell();
};
const clear = () => {
  remember();
  pen().clearRect(0, 0, mask.width, mask.height);
  veil();
  tell();
};
const invert = () => {
  remember();
  const pixels = pen().getImageData(0, 0, mask.width, mask.height);
  for (let i = 3; i < pixels.data.length; i += 4) pixels.data[i] = pixels.data[i] > 127 ? 0 : 255;
  pen().putImageData(pixels, 0, 0);
  veil();
  tell();
};
const enlarge = (large) => {
  easel.classList.toggle("large", large);
  find(".larger").setAttribute("aria-pressed", String(large));
  find(".larger").textContent = large ? "Done" : "Larger";
};

find(".brush").addEventListener("click", () => hold(false));
find(".eraser").addEventListener("click", () => hold(true));
find(".undo").addEventListener("click", undo);
find(".clear").addEventListener("click", clear);
find(".invert").addEventListener("click", invert);
find(".load").addEventListener("click", () => find(".mask-file").click());
find(".larger").addEventListener("click", () => enlarge(!easel.classList.contains("large")));
for (const button of easel.querySelectorAll(".choose")) button.addEventListener("click", () => find(".file").click());
find(".file").addEventListener("change", (event) => { bring(event.target.files[0]); event.target.value = ""; });
find(".mask-file").addEventListener("change", (event) => { bringMask(event.target.files[0]); event.target.value = ""; });
stage.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && key === "z") { event.preventDefault(); undo(); }
  else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (key === "escape" && easel.classList.contains("large")) { event.stopPropagation(); enlarge(false); }
  else if (masked && key === "b") hold(false);
  else if (masked && key === "e") hold(true);
});
for (const name of ["dragenter", "dragover"]) {
  stage.addEventListener(name, (event) => { event.preventDefault(); stage.classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) stage.addEventListener(name, () => stage.classList.remove("over"));
stage.addEventListener("drop", (event) => { event.preventDefault(); bring(event.dataTransfer.files[0]); });
stage.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files][0];
  if (file) { event.preventDefault(); bring(file); }
});

// A picture that another part of the page sends here.
watch("value", () => {
  const sent = props.value;
  if (sent === state.spoken || !sent?.picture?.url || sent.picture.url === state.held?.url) return;
  show(sent.picture);
});
if (props.value?.picture?.url) show(props.value.picture);
