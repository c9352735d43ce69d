// Light or dark: the system's choice until the button is pressed.
const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const themeListeners = [];

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches;
}

function onTheme(listener) {
  themeListeners.push(listener);
}

function announceTheme() {
  for (const listener of themeListeners) listener();
}

document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  announceTheme();
});
systemDark.addEventListener("change", announceTheme);

// The colour that a variable of the style sheet stands for at the moment.
const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);

function colourOf(variable) {
  probe.style.color = variable;
  return getComputedStyle(probe).color;
}

// A copy of a plot's data or layout with colours in place of variables.
function resolved(part) {
  if (typeof part === "string") return part.startsWith("var(--") ? colourOf(part) : part;
  if (Array.isArray(part)) return part.some((item) => typeof item !== "number") ? part.map(resolved) : part;
  if (part === null || typeof part !== "object") return part;
  return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, resolved(value)]));
}
