// Tables that sort by a click on a heading, and columns that can be chosen.
function sortKey(cell) {
  if (!cell.classList.contains("number")) return cell.textContent.trim();
  const text = cell.dataset.value ?? cell.textContent.trim();
  return text === "" ? null : Number(text);
}

// Cells without a value come last in either order.
function compareCells(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
}

function sortBy(heading) {
  const row = heading.parentElement;
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of row.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const body = row.closest("table").tBodies[0];
  const column = heading.cellIndex;
  const keyed = [...body.rows].map((line) => [sortKey(line.cells[column]), line]);
  keyed.sort(([a], [b]) => compareCells(a, b, ascending ? 1 : -1));
  body.append(...keyed.map(([, line]) => line));
}

for (const button of document.querySelectorAll(".sort")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}

for (const box of document.querySelectorAll("input[data-column]")) {
  const show = () => {
    for (const cell of document.querySelectorAll(`#settings-table [data-column="${box.dataset.column}"]`)) {
      cell.hidden = !box.checked;
    }
  };
  box.addEventListener("change", show);
  show();
}
