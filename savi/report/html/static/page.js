// Copy buttons, the current section in the bar, and printing.
async function copyText(source) {
  getSelection().selectAllChildren(source);
  if (navigator.clipboard) await navigator.clipboard.writeText(source.textContent);
  else document.execCommand("copy");
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const copied = await copyText(button.parentElement.querySelector("code")).then(() => true, () => false);
    // What cannot be copied stays selected, for the keyboard to copy.
    button.textContent = copied ? "Copied" : "Selected";
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
}

const links = new Map([...document.querySelectorAll(".bar nav a")].map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver((entries) => {
  const entry = entries.find((each) => each.isIntersecting);
  if (!entry) return;
  for (const link of links.values()) link.removeAttribute("aria-current");
  const link = links.get(entry.target.id);
  link.setAttribute("aria-current", "true");
  const nav = link.parentElement;
  nav.scrollTo({ left: link.offsetLeft - nav.offsetLeft - 40 });
}, { rootMargin: "-72px 0px -70% 0px" });
for (const id of links.keys()) watcher.observe(document.getElementById(id));

// Paper is light, shows what is folded, and is as wide as a page of A4.
let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll(".config, .config details:not([open])")].filter((fold) => !fold.open);
  for (const fold of unfolded) fold.open = true;
  root.dataset.printed = root.dataset.theme ?? "";
  root.dataset.theme = "light";
  document.querySelector("main").style.width = "680px";
  announceTheme();
});
addEventListener("afterprint", () => {
  for (const fold of unfolded) fold.open = false;
  if (root.dataset.printed) root.dataset.theme = root.dataset.printed;
  else delete root.dataset.theme;
  document.querySelector("main").style.width = "";
  announceTheme();
});

drawAll();
root.dataset.ready = "true";
