// Keyboard: single keys outside of input fields, arrow keys when a chart has the focus.

const STEPS = new Set(["ArrowLeft", "ArrowRight", "Home", "End", "Escape"]);

export function bindKeys(actions) {
  const single = {
    "?": () => actions.help(),
    p: () => actions.pause(),
    t: () => actions.theme(),
    j: () => actions.feature(1),
    k: () => actions.feature(-1),
    "+": () => actions.zoom(0.5),
    "=": () => actions.zoom(0.5),
    "-": () => actions.zoom(2),
    0: () => actions.all(),
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const plot = event.target.closest?.(".plot");
    if (plot && STEPS.has(event.key)) {
      event.preventDefault();
      return actions.step(plot.id, event.key);
    }
    if (event.target.matches?.("select, input[type=text], textarea")) return;
    const action = single[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
