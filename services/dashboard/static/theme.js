// Runs before the first paint, so that the page never flashes in the wrong theme.
"use strict";
(() => {
  let saved = null;
  try {
    saved = localStorage.getItem("driftline-theme");
  } catch {
    // Storage may be forbidden; then the system's theme is used.
  }
  if (saved === "light" || saved === "dark") document.documentElement.dataset.theme = saved;
})();
