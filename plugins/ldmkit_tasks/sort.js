for (const head of document.querySelectorAll("table.sorted th")) {
  head.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    const key = row => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent;
    const order = (a, b) => (a === "") - (b === "") || (down ? -1 : 1) * (a - b || a.localeCompare(b, undefined, {numeric: true}));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...[...body.rows].sort((one, two) => order(key(one), key(two))));
  });
}
