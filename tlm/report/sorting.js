// A click on a heading sorts its table by that column: numbers by their first number, the rest by its text.
for (const table of document.querySelectorAll("table")) {
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => {
        const text = row.cells[column].textContent.trim().replaceAll("\u2212", "-").replaceAll(",", "");
        const number = parseFloat(text.replace(/^[✔✘○–<>\s]+/u, ""));
        return Number.isNaN(number) ? text : number;
      };
      const order = (a, b) => {
        if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
        return (typeof a === "number" ? a - b : a.localeCompare(b)) * (up ? 1 : -1);
      };
      const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
      table.tBodies[0].append(...rows.sort(([a], [b]) => order(a, b)).map(([, row]) => row));
    });
  });
}
