() => {
  // Ctrl+Enter (or Cmd+Enter) presses Generate, Escape presses Cancel; only what is on screen counts.
  const press = (selector) => {
    const button = [...document.querySelectorAll(selector)].find((candidate) => candidate.offsetParent !== null);
    if (button) button.click();
    return Boolean(button);
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && press("button.generate")) event.preventDefault();
    if (event.key === "Escape") press("button.cancel");
  });
}
