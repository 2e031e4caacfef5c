// Runs before the page is painted, so that a chosen theme does not flash; a module would run later.
try {
    const chosen = localStorage.getItem("thimble.theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
    // Storage is off: the system's theme holds.
}
