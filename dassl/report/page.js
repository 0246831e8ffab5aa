"use strict";
// Headings become buttons that sort the table; rows of one tbody stay together.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const groups = [...table.tBodies];
  const units = groups.length > 1 ? groups : [...groups[0].rows];
  const parent = groups.length > 1 ? table : groups[0];
  const key = (unit, column) => {
    const cell = (unit.rows ? unit.rows[0] : unit).cells[column];
    return cell.dataset.value === undefined ? cell.textContent : cell.dataset.value;
  };
  const compare = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // missing values come last in both orders
    const numbers = [Number(a), Number(b)];
    return sign * (numbers.some(Number.isNaN) ? a.localeCompare(b, "en", { numeric: true }) : numbers[0] - numbers[1]);
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    const figures = heading.classList.contains("figure");
    button.addEventListener("click", () => {
      const now = heading.getAttribute("aria-sort");
      const falling = now ? now === "ascending" : figures; // the best first
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      units.sort((a, b) => compare(key(a, column), key(b, column), falling ? -1 : 1));
      parent.append(...units);
    });
  });
}
