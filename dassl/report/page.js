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
// Of several runs, the one that is chosen is shown.
const runs = [...document.querySelectorAll("[data-run]")];
if (runs.length > 1) {
  const label = document.createElement("label");
  const select = document.createElement("select");
  runs.forEach((run) => select.append(new Option(run.dataset.run)));
  const show = () => runs.forEach((run, number) => { run.hidden = number !== select.selectedIndex; });
  select.addEventListener("change", show);
  label.className = "chooser";
  label.append("Run", select);
  runs[0].before(label);
  show();
}
// A pointer, or the arrow keys, choose a cell of a drawing; the line below says what is in it.
const percent = (part, whole) => `${(100 * part / whole).toFixed(1)} %`;
const images = (count) => `${count.toLocaleString("en")} image${count === 1 ? "" : "s"}`;
const sayCell = (grid, counts, row, column) => {
  if (grid.kind === "bins") return grid.texts[column];
  const count = counts.get(row * grid.names.length + column) || 0;
  const total = grid.totals[row];
  const share = total ? ` of ${total.toLocaleString("en")} (${percent(count, total)})` : "";
  const right = grid.several && row === column ? `, ${grid.hits[row].toLocaleString("en")} of them right` : "";
  return `true: ${grid.names[row]}; predicted: ${grid.names[column]}: ${images(count)}${share}${right}`;
};
const answer = (drawing) => {
  const grid = JSON.parse(drawing.dataset.grid);
  const [left, top, width, height, rows, columns] = grid.box;
  const counts = new Map();
  for (let n = 0; grid.counts && n < grid.counts.length; n += 2) counts.set(grid.counts[n], grid.counts[n + 1]);
  const cursor = document.createElementNS(drawing.namespaceURI, "rect");
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("width", width);
  cursor.setAttribute("height", height);
  const output = drawing.closest(".drawing").querySelector("output");
  let place = [0, 0];
  const move = (row, column) => {
    place = [Math.min(Math.max(row, 0), rows - 1), Math.min(Math.max(column, 0), columns - 1)];
    cursor.setAttribute("x", left + place[1] * width);
    cursor.setAttribute("y", top + place[0] * height);
    drawing.append(cursor);
    output.textContent = sayCell(grid, counts, ...place);
  };
  const point = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
    const [row, column] = [Math.floor((at.y - top) / height), Math.floor((at.x - left) / width)];
    if (row >= 0 && row < rows && column >= 0 && column < columns) move(row, column);
  };
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  drawing.addEventListener("pointermove", point);
  drawing.addEventListener("pointerdown", point);
  drawing.addEventListener("focus", () => move(...place));
  drawing.addEventListener("blur", () => cursor.remove());
  drawing.addEventListener("pointerleave", () => { if (document.activeElement !== drawing) cursor.remove(); });
  drawing.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    move(place[0] + step[0], place[1] + step[1]);
  });
  drawing.tabIndex = 0;
  output.textContent = "point at a part of the drawing, or use the arrow keys";
};
document.querySelectorAll("svg[data-grid]").forEach(answer);
