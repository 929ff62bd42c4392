// Pours noise on a picture, in the page: x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps, with the numbers in it.
//
// The levels come from Python; the pixels, from -1 to 1, never leave the browser.
const pour = element.querySelector(".pour"), SIDE = 192;
const within = (selector) => pour.querySelector(selector);
const pool = { levels: null, clean: null, noise: null, picture: null };

const three = (value) => value.toFixed(3).replace("-", "−");
const brush = (name) => within(`canvas.${name}`).getContext("2d", { willReadFrequently: true });

const normals = (count) => {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const length = Math.sqrt(-2 * Math.log(1 - Math.random())), angle = 2 * Math.PI * Math.random();
    values[i] = length * Math.cos(angle);
    if (i + 1 < count) values[i + 1] = length * Math.sin(angle);
  }
  return values;
};
const paint = (name, values) => {
  const image = brush(name).createImageData(SIDE, SIDE);
  for (let i = 0, j = 0; i < image.data.length; i += 4, j += 3) {
    for (let c = 0; c < 3; c++) image.data[i + c] = Math.max(0, Math.min(255, (values[j + c] + 1) * 127.5));
    image.data[i + 3] = 255;
  }
  brush(name).putImageData(image, 0, 0);
};
const mix = () => {
  if (!pool.levels || !pool.clean) return;
  const t = Number(within(".t").value), share = pool.levels[t];
  const alpha = Math.sqrt(share), sigma = Math.sqrt(1 - share);
  const mixed = pool.clean.map((value, i) => alpha * value + sigma * pool.noise[i]);
  paint("mixed", mixed);
  const middle = 3 * (SIDE * SIDE / 2 + SIDE / 2) + 1;
  within(".level").textContent = `${t} of ${pool.levels.length - 1}`;
  within(".alpha").textContent = three(alpha);
  within(".sigma").textContent = three(sigma);
  within(".snr").textContent = Number((share / (1 - share)).toPrecision(3));
  const signed = (value) => (value < 0 ? `(${three(value)})` : three(value));
  within(".pixel").textContent = `The green of the pixel in the middle: ${three(alpha)} · ${signed(pool.clean[middle])} + ${three(sigma)} · ${signed(pool.noise[middle])} = ${three(mixed[middle])}`;
};
const redraw = () => {
  pool.noise = normals(SIDE * SIDE * 3);
  paint("noise", pool.noise.map((value) => value / 2)); // two deviations reach black and white
  mix();
};
const take = (image) => {
  const canvas = brush("clean"), [wide, high] = [image.naturalWidth || image.width, image.naturalHeight || image.height];
  const side = Math.min(wide, high);
  canvas.drawImage(image, (wide - side) / 2, (high - side) / 2, side, side, 0, 0, SIDE, SIDE);
  const { data } = canvas.getImageData(0, 0, SIDE, SIDE);
  pool.clean = new Float32Array(SIDE * SIDE * 3);
  for (let i = 0, j = 0; i < data.length; i += 4, j += 3) for (let c = 0; c < 3; c++) pool.clean[j + c] = data[i + c] / 127.5 - 1;
  mix();
};
const load = (url, after = () => {}) => {
  const image = new Image();
  image.onload = () => { take(image); after(); };
  image.onerror = () => { within(".tell").textContent = "That is no picture that this browser opens."; after(); };
  image.src = url;
};
const plain = () => { // a disc under light, until there is a picture
  const canvas = brush("clean"), light = canvas.createRadialGradient(80, 74, 8, 96, 96, 62);
  canvas.fillStyle = "#f4f1ea";
  canvas.fillRect(0, 0, SIDE, SIDE);
  light.addColorStop(0, "#ffb486");
  light.addColorStop(1, "#b8430c");
  canvas.fillStyle = light;
  canvas.beginPath();
  canvas.arc(96, 96, 62, 0, 7);
  canvas.fill();
  take(within("canvas.clean"));
};

pour.addEventListener("toggle", async () => {
  if (!pour.open || pool.levels) return;
  try {
    pool.levels = (await server.training_levels({})).alphas_cumprod;
  } catch {
    within(".tell").textContent = "The studio does not answer.";
    return;
  }
  within(".t").max = pool.levels.length - 1;
  const last = pool.levels.at(-1), snr = last / (1 - last);
  within(".end").textContent = snr > 0 ? `At the last level SNR is ${snr.toFixed(4)}: not quite nothing is left of the picture. Zero-terminal-SNR spacings make it 0.` : "At the last level nothing is left of the picture.";
  redraw();
  if (pool.picture) load(pool.picture);
  else plain();
});
within(".t").addEventListener("input", mix);
within(".redraw").addEventListener("click", redraw);
within(".choose").addEventListener("click", () => within("input[type=file]").click());
within("input[type=file]").addEventListener("change", (event) => {
  const file = event.target.files[0];
  event.target.value = "";
  if (!file) return;
  within(".tell").textContent = "";
  const url = URL.createObjectURL(file);
  load(url, () => URL.revokeObjectURL(url));
});
const follow = ({ detail }) => {
  if (!element.isConnected) return window.removeEventListener("studio", follow);
  if (!detail.onScreen) return;
  pool.picture = detail.onScreen.file.url;
  if (pour.open && pool.levels) load(pool.picture);
};
window.addEventListener("studio", follow);
