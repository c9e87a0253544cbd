// page.py puts inflate.js before this file: large parts of the page are gzipped until they are needed.
const unpacked = (id) => JSON.parse(inflated(id));

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// --- charts ----------------------------------------------------------------------------------

const NEAR = "600px"; // charts that are this close to the visible part are drawn
const FEW = 4; // charts with WebGL; each needs three contexts, and browsers have 16 or fewer
const PAPER = 850; // pixels; page.css makes them fit on A4 and on US Letter
const CONFIG = { displaylogo: false, responsive: true, showSendToCloud: false };
const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Set();
let themes = null;

function load() {
  if (themes) return;
  themes = unpacked("themes");
  document.head.append(element("script", {}, inflated("plotly"))); // runs at once
}

const theme = () => (dark.matches ? themes.dark : themes.light);

function draw(box) {
  if (drawn.has(box)) return;
  load();
  const figure = unpacked(box.dataset.figure);
  const layout = { ...figure.layout, template: theme(), height: box.clientHeight };
  Plotly.newPlot(box, figure.data, layout, CONFIG);
  drawn.add(box);
}

// A browser has few WebGL contexts: if the charts need more, those out of sight release theirs.
function release(box) {
  if (drawn.delete(box)) Plotly.purge(box);
}

function retheme() {
  for (const box of drawn) Plotly.relayout(box, { template: theme() });
}

// Puts a copy for paper beside a chart: as wide as a page, with dark ink, and without WebGL.
function copyForPaper(box) {
  load();
  const figure = unpacked(box.dataset.figure);
  const size = { width: PAPER, height: box.clientHeight };
  const sheet = element("div", { class: "paper" });
  box.after(sheet);
  const layout = { ...figure.layout, ...size, template: themes.light };
  // All is drawn when it returns; what it does later must still find its data.
  const done = Plotly.newPlot(sheet, figure.data, layout, { staticPlot: true });
  const copy = sheet.cloneNode(true);
  const canvases = copy.querySelectorAll("canvas");
  sheet.querySelectorAll("canvas").forEach((canvas, place) => {
    canvases[place].getContext("2d").drawImage(canvas, 0, 0); // a clone is empty
  });
  done.then(() => Plotly.purge(sheet));
  sheet.replaceWith(copy);
}

function watchCharts() {
  const boxes = [...document.querySelectorAll(".chart")];
  const few = boxes.filter((box) => box.dataset.webgl).length <= FEW;
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) draw(target);
        else if (!few && target.dataset.webgl) release(target);
      }
    },
    { rootMargin: NEAR },
  );
  for (const box of boxes) watcher.observe(box);
  dark.addEventListener("change", retheme);
  addEventListener("beforeprint", () => boxes.forEach(copyForPaper));
  addEventListener("afterprint", () => {
    for (const copy of document.querySelectorAll(".paper")) copy.remove();
    // The copies may have taken the contexts of charts that are on the screen.
    for (const box of [...drawn].filter((each) => each.dataset.webgl)) {
      release(box);
      draw(box);
    }
  });
}

// --- the table of trials -------------------------------------------------------------------

const PAGE = 100; // rows
const CONDITION = /^([^<>=]+)(<=|>=|=|<|>)(.*)$/;
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const TESTS = {
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
};

function shown(value) {
  if (value === null) return "–";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size < 1e-3 || size >= 1e6 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

// Numbers come before text; missing values come last in both directions.
function compared(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  if (typeof a !== typeof b) return sign * (typeof a === "number" ? -1 : 1);
  return sign * collator.compare(String(a), String(b));
}

class Trials {
  constructor(box, table) {
    Object.assign(this, table); // columns, links, commands: see page.py
    this.box = box;
    this.find = (selector) => box.querySelector(selector);
    this.texts = this.commands.map((_, row) =>
      this.columns.map((column) => `${column.values[row] ?? ""}`.toLowerCase()).join("\n"),
    );
    this.page = 0;
    this.drawHead();
    this.find("input").addEventListener("input", () => this.filter());
    this.find(".before").addEventListener("click", () => this.turn(-1));
    this.find(".after").addEventListener("click", () => this.turn(1));
    this.rows = [...this.texts.keys()];
    this.sort(this.columns.findIndex((column) => column.first), 1);
  }

  drawHead() {
    const cells = this.columns.map((column, index) => {
      const button = element("button", { type: "button" }, column.label);
      const name = column.text ? "text" : "";
      const cell = element("th", { scope: "col", class: name }, button);
      const again = () => (cell.getAttribute("aria-sort") === "ascending" ? -1 : 1);
      button.addEventListener("click", () => this.sort(index, again()));
      return cell;
    });
    const again = element("th", { scope: "col", class: "text" }, element("span", {}, "run again"));
    this.find("thead").replaceChildren(element("tr", {}, ...cells, again));
  }

  sort(index, sign) {
    this.order = { values: this.columns[index].values, sign };
    this.find("thead tr").querySelectorAll("button").forEach((button, place) => {
      const cell = button.parentElement;
      if (place === index) cell.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    });
    this.filter();
  }

  filter() {
    const conditions = this.find("input").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const refused = conditions.map((condition) => this.refusal(condition)).filter(Boolean);
    this.find(".refused").textContent = refused.join(" ");
    this.find("input").setAttribute("aria-invalid", refused.length > 0);
    const usable = conditions.filter((condition) => !this.refusal(condition));
    const tests = usable.map((condition) => this.test(condition));
    const { values, sign } = this.order;
    this.rows = [...this.texts.keys()].filter((row) => tests.every((test) => test(row)));
    this.rows.sort((a, b) => compared(values[a], values[b], sign));
    this.page = 0;
    this.draw();
  }

  column(name) {
    return this.columns.find((each) => each.name.toLowerCase() === name);
  }

  // Why a condition is left out, in a sentence; empty if it can be tested.
  refusal(condition) {
    const [, name, sign, wanted] = CONDITION.exec(condition) ?? [];
    if (!name) return "";
    if (!this.column(name)) return `Left out: ${condition}. There is no column “${name}”.`;
    if (!wanted) return `Left out: ${condition}. A value is missing after “${sign}”.`;
    const numeric = sign === "=" || Number.isFinite(Number(wanted));
    return numeric ? "" : `Left out: ${condition}. “${wanted}” is not a number.`;
  }

  // `lr<1e-3` and `state=failed` compare a column; any other word is searched for in the row.
  test(condition) {
    const [, name, sign, wanted] = CONDITION.exec(condition) ?? [];
    if (!name) return (row) => this.texts[row].includes(condition);
    const column = this.column(name);
    const number = Number(wanted);
    const equal = (value) => `${value ?? ""}`.toLowerCase() === wanted || value === number;
    if (sign === "=") return (row) => equal(column.values[row]);
    return (row) => column.values[row] !== null && TESTS[sign](column.values[row], number);
  }

  turn(by) {
    this.page += by;
    this.draw();
    this.find(".scroll").scrollTop = 0;
  }

  draw() {
    const first = this.page * PAGE;
    const visible = this.rows.slice(first, first + PAGE);
    const last = first + visible.length;
    const all = this.texts.length === this.rows.length ? "" : ` of ${this.texts.length} in all`;
    this.find(".count").textContent = visible.length
      ? `${first + 1}–${last} of ${this.rows.length} trials${all}`
      : `no trial matches${all && `, ${this.texts.length} in all`}`;
    this.find(".before").disabled = first === 0;
    this.find(".after").disabled = last >= this.rows.length;
    this.find("tbody").replaceChildren(...visible.map((row) => this.row(row)));
  }

  row(row) {
    const cells = this.columns.map((column, index) => {
      const value = column.values[row];
      if (index === 0) return element("th", { scope: "row" }, this.linked(value, row));
      const cell = element("td", { class: column.wide ? "wrap" : column.text ? "text" : "number" });
      cell.textContent = column.wide ? (value ?? "") : shown(value);
      return cell;
    });
    const copy = copyButton(this.commands[row], `trial ${this.columns[0].values[row]}`);
    return element("tr", {}, ...cells, element("td", { class: "text" }, copy));
  }

  linked(trial, row) {
    const address = this.links[row];
    if (!address) return String(trial);
    return element("a", { href: address, rel: "noreferrer", title: "its run in MLflow" }, `${trial}`);
  }
}

function watchTables() {
  for (const box of document.querySelectorAll(".trials")) {
    new Trials(box, unpacked(box.dataset.table));
    box.hidden = false;
  }
}

// --- copying -------------------------------------------------------------------------------

function copyButton(text, what) {
  const label = `Copy the command for ${what}`;
  const made = { type: "button", class: "copy", "data-copy": text, title: text };
  return element("button", { ...made, "aria-label": label }, "copy");
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "copied";
  } catch {
    prompt("Copy:", button.dataset.copy); // the browser denies access to the clipboard
  }
  setTimeout(() => (button.textContent = "copy"), 1500);
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest?.("button.copy");
  if (button) copy(button);
});

// --- start -----------------------------------------------------------------------------------

watchTables();
watchCharts();
