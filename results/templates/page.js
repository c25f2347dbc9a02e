// A click on a heading sorts its table: numbers as numbers, empty cells last; a second click turns the order around.
const number = text => Number(text.replace(/ ±.*/, "").replaceAll(",", ""));
document.querySelectorAll("th button").forEach(button => button.addEventListener("click", () => {
  const heading = button.parentElement, body = heading.closest("table").tBodies[0], column = heading.cellIndex;
  const descending = heading.getAttribute("aria-sort") === "ascending";
  const text = row => row.cells[column].textContent.trim();
  const rows = [...body.rows];
  const numeric = rows.every(row => text(row) === "" || !Number.isNaN(number(text(row))));
  const order = (a, b) => numeric ? number(a) - number(b) : a.localeCompare(b);
  rows.sort((a, b) => {
    const [left, right] = [text(a), text(b)];
    if (left === "" || right === "") return (left === "") - (right === "");
    return descending ? order(right, left) : order(left, right);
  });
  body.append(...rows);
  heading.parentElement.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
}));
