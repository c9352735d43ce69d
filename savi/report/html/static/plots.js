// Every plot is an element with data-plot, drawn from the JSON in the page.
const figures = JSON.parse(document.getElementById("plot-data").textContent);
const hiddenSettings = new Set();
const sources = { overlay: chosenOverlay };

const axisLook = {
  gridcolor: "var(--line)", zeroline: false, linecolor: "var(--line)", automargin: true,
  ticks: "outside", ticklen: 5, tickcolor: "rgba(0,0,0,0)", exponentformat: "e", tickfont: { color: "var(--muted)", size: 12 }, title: { standoff: 8, font: { size: 12.5, color: "var(--muted)" } },
};
const look = {
  font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: "var(--ink)" },
  paper_bgcolor: "var(--card)", plot_bgcolor: "var(--card)", showlegend: false, hovermode: "x unified",
  hoverlabel: { bgcolor: "var(--card)", bordercolor: "var(--line)", font: { color: "var(--ink)", size: 13 } },
  xaxis: { ...axisLook, nticks: 6 }, yaxis: { ...axisLook, nticks: 6 },
};
const options = { responsive: true, displayModeBar: false, showTips: false };

function isShown(trace) {
  return trace.meta?.setting === undefined || !hiddenSettings.has(trace.meta.setting);
}

function draw(element) {
  const name = element.dataset.plot;
  const figure = name in sources ? sources[name]() : figures.plots[name];
  const layout = {
    margin: { l: 48, r: 14, t: 14, b: 40 },
    ...resolved(figure.layout), template: { layout: resolved(look) }, autosize: true,
  };
  return Plotly.react(element, resolved(figure.data.filter(isShown)), layout, options);
}

function drawAll() {
  for (const element of document.querySelectorAll("[data-plot]")) draw(element);
}

onTheme(drawAll);
