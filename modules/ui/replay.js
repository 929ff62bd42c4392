// Runs a picture's recipe again through the queue and shows both beside their difference; gives it away as
// Python, JPEG or WebP. Every text goes in through textContent.
const find = (selector) => element.querySelector(selector);
const fold = find(".fold"), chooser = find("input[type=file]");
const state = { picture: null, busy: false };
const PACE = 400;

const tell = (detail) => window.dispatchEvent(new CustomEvent("studio", { detail }));
const say = (text) => { find(".tell").textContent = text; };
const ask = async (question, asked) => {
  try {
    const answer = await server[question]({ owner: window.epsilon.owner(), ...asked });
    if (!answer.refused) return answer;
    say(answer.refused);
  } catch {
    say("The studio does not answer.");
  }
  return null;
};
const buttons = () => {
  for (const button of element.querySelectorAll(".replay-this, .python, .save-as")) button.disabled = !state.picture || state.busy;
  find(".replay-file").disabled = state.busy;
};
const clear = () => {
  find(".outcome").hidden = find(".code").hidden = true;
  say(state.picture ? "" : "Make or open a picture first.");
  buttons();
};

const show = (found, before) => {
  say("");
  find(".outcome").hidden = false;
  find(".verdict").textContent = found.sentence;
  find(".verdict").dataset.identical = found.identical;
  find(".then").src = before;
  find(".now").src = window.epsilon.address(found.path);
  find(".heat").parentElement.hidden = !found.heat;
  if (found.heat) find(".heat").src = found.heat;
  find(".fields").hidden = !found.fields.length;
  find(".fields tbody").replaceChildren(...found.fields.map((field) => {
    const row = document.createElement("tr");
    for (const text of field) row.insertCell().textContent = text;
    return row;
  }));
};

const again = async (path, before) => {
  clear();
  state.busy = true;
  buttons();
  say("Running it again…");
  const begun = await ask("run_again", { path });
  if (begun) {
    tell({ submitted: true });
    for (;;) {
      await new Promise((wake) => { setTimeout(wake, PACE); });
      if (!element.isConnected) return;
      const found = await ask("how_it_went", { path, ...begun });
      if (found && found.going) say(found.going);
      else {
        if (found) show(found, before);
        break;
      }
    }
  }
  state.busy = false;
  buttons();
};

find(".replay-this").addEventListener("click", () => again(state.picture.file.path, state.picture.file.url));
find(".replay-file").addEventListener("click", () => chooser.click());
chooser.addEventListener("change", async () => {
  const file = chooser.files[0];
  chooser.value = "";
  if (!file) return;
  clear();
  say("Bringing it here…");
  try {
    const { path, url } = await upload(file);
    await again(path, url);
  } catch {
    say("The picture did not arrive: it may be larger than 32 MB, or the connection broke.");
  }
});
find(".python").addEventListener("click", async (event) => {
  const button = event.currentTarget, answer = await ask("write_python", { path: state.picture.file.path });
  if (!answer) return;
  find(".code pre").textContent = answer.code;
  find(".code").hidden = false;
  try {
    await navigator.clipboard.writeText(answer.code);
    button.textContent = "Copied";
    say("");
  } catch {
    say("The browser refused to copy: select the text below.");
  }
  setTimeout(() => { button.textContent = "Copy as Python"; }, 1500);
});
for (const button of element.querySelectorAll(".save-as")) {
  button.addEventListener("click", async () => {
    const answer = await ask("save_as", { path: state.picture.file.path, form: button.dataset.form });
    if (!answer) return;
    const link = document.createElement("a");
    link.href = window.epsilon.address(answer.path);
    link.download = answer.path.split(/[\\/]/).at(-1);
    link.click();
  });
}
const hear = ({ detail }) => {
  if (!element.isConnected) return window.removeEventListener("studio", hear);
  if (!detail.onScreen) return;
  state.picture = detail.onScreen;
  if (!state.busy && find(".outcome").hidden) clear();
  buttons();
};
window.addEventListener("studio", hear);
clear();
