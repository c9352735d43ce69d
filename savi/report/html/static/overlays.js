// The comparison's curves: which metric, which lines, and which settings.
const metricMenu = document.getElementById("metric");

function chosenOverlay() {
  const lines = document.querySelector("input[name=lines]:checked").value;
  return figures.overlays[metricMenu.value][lines];
}

function drawOverlay() {
  draw(document.querySelector("[data-plot=overlay]"));
}

metricMenu?.addEventListener("change", drawOverlay);
for (const choice of document.querySelectorAll("input[name=lines]")) {
  choice.addEventListener("change", drawOverlay);
}

// The legends show the same settings, and one press hides a setting in all plots.
const settingButtons = document.querySelectorAll(".legend button[data-setting]");

function showSettings() {
  for (const button of settingButtons) {
    button.setAttribute("aria-pressed", String(!hiddenSettings.has(Number(button.dataset.setting))));
  }
  drawAll();
}

for (const button of settingButtons) {
  button.addEventListener("click", () => {
    const setting = Number(button.dataset.setting);
    if (!hiddenSettings.delete(setting)) hiddenSettings.add(setting);
    showSettings();
  });
}
for (const button of document.querySelectorAll(".legend button[data-every]")) {
  button.addEventListener("click", () => {
    hiddenSettings.clear();
    if (button.dataset.every === "hide") {
      for (const each of settingButtons) hiddenSettings.add(Number(each.dataset.setting));
    }
    showSettings();
  });
}
