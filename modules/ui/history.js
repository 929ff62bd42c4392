// The pictures of before: searched, opened in the frame, chosen, exported, deleted. See history.py.
//
// Every question goes to the server by name and its answer comes back to who asked; every text goes in
// through textContent. What happens to a picture is told to the frame by "studio" events on the window.
const find = (selector) => element.querySelector(selector);
const drawer = find(".drawer");
const state = { entries: [], chosen: new Set(), asked: 0 };

const tell = (detail) => window.dispatchEvent(new CustomEvent("studio", { detail }));
const say = (text) => { find(".found").textContent = text; };
const counted = (count) => `${count.toLocaleString()} picture${count === 1 ? "" : "s"}`;

const ask = async (what, question) => {
  try {
    const answer = await server[what]({ owner: window.epsilon.owner(), ...question });
    if (!answer.refused) return answer;
    say(answer.refused);
  } catch {
    say("The studio does not answer. Is it still running?");
  }
  return null;
};

// A day of the calendar where the browser is, as the Unix seconds of its first moment.
const midnight = (day, later = 0) => {
  if (!day) return null;
  const [year, month, date] = day.split("-").map(Number);
  return new Date(year, month - 1, date + later).getTime() / 1000;
};
const query = () => ({
  words: find("[name=words]").value,
  kind: find("[name=kind]").value,
  sampler: find("[name=sampler]").value,
  model: find("[name=model]").value,
  since: midnight(find("[name=since]").value),
  until: midnight(find("[name=until]").value, 1),
});

const offer = (choices) => {
  for (const [name, values] of Object.entries(choices)) {
    const select = find(`select[name=${name}]`), kept = select.value;
    select.replaceChildren(new Option("any", ""), ...values.map((value) => new Option(value.replaceAll("_", " "), value)));
    select.value = values.includes(kept) ? kept : "";
    select.parentElement.hidden = values.length < 2 && !select.value;
  }
};

const bar = () => {
  find(".chosen").hidden = !state.chosen.size;
  find(".how-many").textContent = `${counted(state.chosen.size)} chosen`;
  const button = find(".delete");
  button.textContent = "Delete";
  delete button.dataset.sure;
  element.querySelector(".shelf").classList.toggle("choosing", state.chosen.size > 0);
};

const item = (entry) => {
  const cell = document.createElement("div"), button = document.createElement("button");
  const image = document.createElement("img"), label = document.createElement("label");
  const box = document.createElement("input");
  cell.className = "kept";
  button.type = "button";
  button.title = `${entry.title || "No prompt"}\n${new Date(entry.at * 1000).toLocaleString()}`;
  button.setAttribute("aria-label", `${entry.title || "No prompt"}, seed ${entry.seed}`);
  image.src = entry.thumbnail;
  image.alt = "";
  button.appendChild(image);
  button.addEventListener("click", async () => {
    const answer = await ask("open_picture", { name: entry.name });
    if (!answer) return;
    answer.picture.file.url = window.epsilon.address(answer.picture.file.path);
    tell({ open: answer.picture });
  });
  box.type = "checkbox";
  box.checked = state.chosen.has(entry.name);
  box.setAttribute("aria-label", `Choose ${entry.title || "this picture"}`);
  box.addEventListener("change", () => {
    if (box.checked) state.chosen.add(entry.name);
    else state.chosen.delete(entry.name);
    bar();
  });
  label.appendChild(box);
  cell.append(button, label);
  return cell;
};

const draw = () => {
  find(".shelf").replaceChildren(...state.entries.map(item));
  bar();
};

// The first page, the next one (`further`), or what is new above those that are shown (`newer`).
const seek = async ({ further = false, newer = false } = {}) => {
  const asked = ++state.asked, last = state.entries.at(-1);
  const answer = await ask("find_pictures", { ...query(), after: further && last ? [last.at, last.name] : null });
  if (!answer || asked !== state.asked) return; // a later question is on its way
  const known = new Set(state.entries.map((entry) => entry.name));
  const fresh = answer.entries.filter((entry) => !known.has(entry.name));
  if (further) state.entries.push(...fresh);
  else if (newer && known.size) state.entries.unshift(...fresh);
  else state.entries = answer.entries;
  if (!further && !newer) state.chosen.clear();
  offer(answer.choices);
  say(answer.total ? counted(answer.total) : answer.any ? "No picture fits." : "Finished pictures are kept here.");
  find(".further").hidden = state.entries.length >= answer.total;
  draw();
};

const forget = (names) => {
  state.entries = state.entries.filter((entry) => !names.includes(entry.name));
  names.forEach((name) => state.chosen.delete(name));
  tell({ gone: names });
  seek({ newer: true });
};

let pause = null;
const soon = () => {
  clearTimeout(pause);
  pause = setTimeout(seek, 250);
};
drawer.addEventListener("toggle", () => { if (drawer.open) seek(); });
find("[name=words]").addEventListener("input", soon);
find(".filters").addEventListener("change", () => seek());
find(".seek").addEventListener("submit", (event) => {
  event.preventDefault();
  seek();
});
find(".narrow").addEventListener("click", (event) => {
  const filters = find(".filters");
  filters.hidden = !filters.hidden;
  event.currentTarget.setAttribute("aria-expanded", String(!filters.hidden));
});
find(".further").addEventListener("click", () => seek({ further: true }));
find(".none").addEventListener("click", () => {
  state.chosen.clear();
  draw();
});
find(".pack").addEventListener("click", async () => {
  say("Packing…");
  const answer = await ask("export_pictures", { names: [...state.chosen] });
  if (!answer) return;
  const link = document.createElement("a");
  link.href = window.epsilon.address(answer.path);
  link.download = answer.path.split(/[\\/]/).at(-1);
  link.click();
  say(`${counted(state.chosen.size)} packed.`);
});
find(".delete").addEventListener("click", async (event) => {
  const button = event.currentTarget;
  if (!button.dataset.sure) {
    button.dataset.sure = "yes";
    button.textContent = `Delete ${counted(state.chosen.size)} for good?`;
    return;
  }
  const answer = await ask("delete_pictures", { names: [...state.chosen] });
  if (answer) forget(answer.gone);
});
find(".delete").addEventListener("blur", bar);

const hear = (event) => {
  if (!element.isConnected) {
    window.removeEventListener("studio", hear);
    return;
  }
  if (event.detail.over && drawer.open) seek({ newer: true });
};
window.addEventListener("studio", hear);
