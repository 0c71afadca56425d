"use strict";
// The page is whole without this file: it sorts tables, searches the answers and unfolds the numbers for paper.

function value(row, column) {
  const cell = row.cells[column];
  return cell.dataset.order === undefined ? cell.textContent.trim() : Number(cell.dataset.order);
}

function compare(one, other) {
  const numbers = typeof one === "number" && typeof other === "number";
  return numbers ? one - other : String(one).localeCompare(String(other), "en", { numeric: true });
}

function sortBy(head, column) {
  const body = head.closest("table").tBodies[0];
  const rises = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", rises ? "ascending" : "descending");
  const known = [], unknown = [];
  // what is undefined stays below, whichever way the rest is sorted
  for (const row of body.rows) (row.cells[column].textContent.trim() === "–" ? unknown : known).push(row);
  known.sort((one, other) => (rises ? 1 : -1) * compare(value(one, column), value(other, column)));
  body.append(...known, ...unknown);
}

for (const table of document.querySelectorAll("table")) {
  if (table.tBodies[0].rows.length < 2) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (head.tagName !== "TH") return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(head, column));
    head.append(button);
  });
}

const questions = document.getElementById("questions");
if (questions) {
  const articles = [...questions.querySelectorAll("article")];
  const texts = articles.map((article) => article.textContent.toLowerCase());
  const label = document.createElement("label");
  const input = document.createElement("input");
  const count = document.createElement("output");
  label.textContent = "Search in questions and answers";
  label.htmlFor = input.id = "search";
  input.type = "search";
  count.setAttribute("aria-live", "polite");
  const search = () => {
    const wanted = input.value.toLowerCase().trim();
    let found = 0;
    articles.forEach((article, place) => {
      article.hidden = !texts[place].includes(wanted);
      if (!article.hidden) found += 1;
    });
    // what is found must be seen
    const further = document.getElementById("further");
    if (further && wanted) further.open = true;
    count.textContent = `${found} of ${articles.length} questions`;
  };
  input.addEventListener("input", search);
  const bar = document.createElement("div");
  bar.className = "search";
  bar.append(label, input, count);
  questions.before(bar);
  search();
}

const opened = [];
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details.numbers:not([open])")) {
    details.open = true;
    opened.push(details);
  }
});
addEventListener("afterprint", () => {
  for (const details of opened.splice(0)) details.open = false;
});
