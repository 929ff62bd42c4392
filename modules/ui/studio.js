() => {
  // Whose pictures are asked for: a name that this browser made up and keeps, as long as it keeps anything.
  const fresh = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  let name = null;
  window.epsilon = {
    owner() {
      try {
        name = name || localStorage.getItem("epsilon-owner") || fresh();
        localStorage.setItem("epsilon-owner", name);
      } catch {
        name = name || fresh(); // the browser keeps nothing: this visit alone
      }
      return name;
    },
    address(path) {
      const { root, api_prefix } = window.gradio_config;
      return `${root}${api_prefix || ""}/file=${path.split("/").map(encodeURIComponent).join("/")}`;
    },
  };
  // Ctrl+Enter (or Cmd+Enter) presses Generate, Escape presses Cancel; only what is on screen counts.
  const press = (selector) => {
    const button = [...document.querySelectorAll(selector)].find((candidate) => candidate.offsetParent !== null);
    if (button) button.click();
    return Boolean(button);
  };
  // A picture dropped anywhere is the one that the open tab asks for; if it asks for none, it gives its settings.
  document.addEventListener("dragover", (event) => {
    if ([...event.dataTransfer.types].includes("Files")) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    const inputs = [...document.querySelectorAll("#asking input[type=file]")];
    const here = event.target.closest(".replay, .pour")?.querySelector("input[type=file]"); // these ask by themselves
    const input = here || inputs.find((candidate) => candidate.parentElement.offsetParent !== null) || document.querySelector("#showing > input[type=file]");
    if (!event.dataTransfer.files.length || !input) return;
    event.preventDefault();
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && press("button.generate")) event.preventDefault();
    if (event.key === "Escape") press("button.cancel");
  });
}
