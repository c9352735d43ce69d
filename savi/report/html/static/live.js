// A page that is served follows its runs: it loads anew when their files have changed.
const chosen = ["metric"].map((id) => document.getElementById(id)).filter((element) => element);

// What its reader has done to it stays.
const kept = JSON.parse(sessionStorage.getItem("savi") ?? "{}");
if (kept.theme) root.dataset.theme = kept.theme;
for (const element of chosen) {
  if ([...element.options].some((option) => option.value === kept[element.id])) element.value = kept[element.id];
}
for (const fold of kept.open ?? []) document.querySelectorAll("details")[fold]?.setAttribute("open", "");
if (kept.lines) document.querySelector(`input[name="lines"][value="${kept.lines}"]`)?.click();
announceTheme();
history.scrollRestoration = "manual";
scrollTo({ top: kept.top ?? 0, behavior: "instant" });

function keep() {
  const open = [...document.querySelectorAll("details")].flatMap((fold, place) => (fold.open ? [place] : []));
  sessionStorage.setItem("savi", JSON.stringify({
    theme: root.dataset.theme, top: scrollY, open, lines: document.querySelector('input[name="lines"]:checked')?.value,
    ...Object.fromEntries(chosen.map((element) => [element.id, element.value])),
  }));
}

setInterval(async () => {
  const answer = await fetch("version", { cache: "no-store" }).catch(() => null);
  root.toggleAttribute("data-lost", answer === null);
  if (answer === null || !answer.ok) return;
  if (await answer.text() !== root.dataset.version) {
    keep();
    location.reload();
  }
}, 2000);
