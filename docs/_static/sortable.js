// A click on the head of a column sorts the table by it, numbers as numbers.
document.addEventListener("DOMContentLoaded", () => {
  const value = (row, k) => row.cells[k]?.textContent.trim() ?? "";
  for (const table of document.querySelectorAll("table.docutils")) {
    const body = table.tBodies[0];
    if (!body || body.rows.length < 8) continue;
    [...(table.tHead?.rows[0]?.cells ?? [])].forEach((head, k) => {
      if (!head.textContent.trim()) return;
      head.classList.add("sortable");
      head.tabIndex = 0;
      const sort = () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].sort((a, b) =>
          value(a, k).localeCompare(value(b, k), undefined, { numeric: true }));
        body.append(...(down ? rows.reverse() : rows));
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
    });
  }
});
