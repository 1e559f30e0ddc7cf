// Runs before the first paint, so that a chosen theme does not flash in the other one.
"use strict";
(() => {
  let saved = null;
  try {
    saved = localStorage.getItem("driftline-theme");
  } catch {
    // Storage may be forbidden; the system's theme is a fine one.
  }
  if (saved === "light" || saved === "dark") document.documentElement.dataset.theme = saved;
})();
