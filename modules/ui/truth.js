// Walks a sampler through a world whose truth is known, and draws how near it comes as steps grow. The one
// that is chosen in the noise schedule comes first; the one before it stays, for comparison.
const truth = element.querySelector(".truth"), approach = truth.querySelector(".approach");
const sampler = truth.querySelector("select.sampler"), schedule = truth.querySelector("select.schedule");
const seen = { samplers: null, now: null, before: null, asked: 0 };
const LOW = 0.3, HIGH = 0.7, TRUTH = 0.5;

const node = (name, attributes, text = "") => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.textContent = text;
  return made;
};
const drawTruth = () => {
  if (!seen.now) return;
  const width = Math.max(240, approach.clientWidth), height = 190, left = 34, right = width - 12, top = 16, floor = height - 30;
  const most = Math.max(...seen.now.outcomes.map((one) => one.steps), 2);
  const x = (steps) => left + (Math.log(steps) / Math.log(most)) * (right - left);
  const y = (std) => floor - ((Math.max(LOW, Math.min(HIGH, std)) - LOW) / (HIGH - LOW)) * (floor - top);
  const line = ({ outcomes }, name) => [
    node("path", { class: name, d: outcomes.filter((one) => one.steps <= most).map((one, i) => `${i ? "L" : "M"}${x(one.steps).toFixed(1)} ${y(one.std).toFixed(1)}`).join("") }),
    ...outcomes.filter((one) => one.steps <= most).map((one) => node("circle", { class: name, cx: x(one.steps), cy: y(one.std), r: 3.4 })),
  ];
  approach.setAttribute("viewBox", `0 0 ${width} ${height}`);
  approach.replaceChildren(
    ...[0.3, 0.4, 0.5, 0.6, 0.7].flatMap((std) => [
      node("line", { x1: left, x2: right, y1: y(std), y2: y(std), class: std === TRUTH ? "goal" : "" }),
      node("text", { x: left - 6, y: y(std) + 4, "text-anchor": "end" }, String(std)),
    ]),
    ...seen.now.outcomes.map((one) => node("text", { x: x(one.steps), y: floor + 15, "text-anchor": "middle" }, String(one.steps))),
    node("text", { x: right, y: height - 1, "text-anchor": "end" }, "steps"),
    node("text", { x: left, y: 10 }, "spread of the samples; the truth is 0.5"),
    ...(seen.before ? line(seen.before, "before") : []),
    ...line(seen.now, "now"),
  );
  const [first, last] = [seen.now.outcomes[0], seen.now.outcomes.at(-1)];
  const told = `${seen.now.name}: ${first.std.toFixed(3)} at ${first.steps} step${first.steps > 1 ? "s" : ""}, ${last.std.toFixed(4)} at ${last.steps}.`;
  truth.querySelector(".reading").textContent = told + (seen.before ? ` In the other colour: ${seen.before.name}.` : "");
  approach.setAttribute("aria-label", `Spread of the samples against steps. ${told}`);
};
const walkThrough = async () => {
  const asked = ++seen.asked, name = `${sampler.value}, ${schedule.value}`;
  if (seen.now && seen.now.name === name) return;
  const say = (text) => { truth.querySelector(".tell").textContent = text; };
  say("Walking…");
  let answer = { refused: "The studio does not answer." };
  try {
    answer = await server.meet_truth({ sampler: sampler.value, schedule: schedule.value });
  } catch { /* told below */ }
  if (asked !== seen.asked) return;
  say(answer.refused || "");
  if (answer.refused) return;
  Object.assign(seen, { before: seen.now, now: { name, outcomes: answer.outcomes } });
  drawTruth();
};
const fill = (select, names, chosen) => {
  select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
};
const inPanel = (box) => document.querySelector(`#${box} input`)?.value;
const asInPanel = () => {
  if (!seen.samplers || !truth.open) return;
  const [name, spacing] = [inPanel("sampler"), inPanel("schedule")];
  if (!(name in seen.samplers)) return;
  fill(sampler, Object.keys(seen.samplers), name);
  fill(schedule, seen.samplers[name], spacing);
  walkThrough();
};
truth.addEventListener("toggle", async () => {
  if (!truth.open) return;
  if (!seen.samplers) {
    try {
      seen.samplers = (await server.list_samplers({})).samplers;
    } catch {
      truth.querySelector(".tell").textContent = "The studio does not answer.";
      return;
    }
    fill(sampler, Object.keys(seen.samplers));
    fill(schedule, seen.samplers[sampler.value]);
  }
  asInPanel();
});
sampler.addEventListener("change", () => { fill(schedule, seen.samplers[sampler.value], schedule.value); walkThrough(); });
schedule.addEventListener("change", walkThrough);
const planned = ({ detail }) => {
  if (!element.isConnected) return window.removeEventListener("studio", planned);
  if (detail.planned) asInPanel();
};
window.addEventListener("studio", planned);
new ResizeObserver(drawTruth).observe(approach);
