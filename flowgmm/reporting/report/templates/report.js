"use strict";
// Names come from users' data: everything is inserted as text, nothing as HTML.
const $ = id => document.getElementById(id);
const drawer = $("drawer");

// -- data ----------------------------------------------------------------------------------

const blocks = {};
// Content of a block of the page, compressed JSON in base64; unpacked when it is first asked for.
function block(name) {
  return blocks[name] ??= (async () => {
    const letters = atob($(name).textContent), bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  })();
}

// Run of an id, or undefined.
async function runOf(id) {
  const {runs, part} = await block("data"), place = runs.indexOf(id);
  return place < 0 ? undefined : (await block(`runs-${Math.floor(place / part)}`))[place % part];
}

// Element of a name, with properties and children; texts become text nodes.
function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children.flat().filter(child => child !== null && child !== undefined && child !== ""));
  return element;
}

// -- sort and filter -----------------------------------------------------------------------

function sortBy(button) {
  const head = button.closest("th"), table = button.closest("table");
  const order = head.ariaSort === "descending" ? "ascending" : "descending";
  for (const other of table.querySelectorAll("th[aria-sort]")) other.ariaSort = "none";
  head.ariaSort = order;
  const column = head.cellIndex, sign = order === "ascending" ? 1 : -1;
  const value = row => parseFloat(row.cells[column].dataset.value);
  for (const body of table.tBodies) {
    const rows = [...body.querySelectorAll("tr.row")];
    // A cell without a number stands last in either order.
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return isNaN(x) - isNaN(y) || sign * (x - y) || 0;
    });
    body.append(...rows);
  }
}

function filter() {
  const words = $("words").value.trim().toLowerCase(), word = $("word").value;
  let found = 0, all = 0;
  for (const section of document.querySelectorAll("#results div.table")) {
    let own = 0;
    const title = section.querySelector("h3").textContent.toLowerCase();
    for (const row of section.querySelectorAll("tr.row")) {
      const text = `${title} ${row.cells[0].textContent.toLowerCase()}`;
      const fits = text.includes(words) && (!word || row.dataset.verdicts.split("|").includes(word));
      row.hidden = !fits;
      own += fits;
      all += 1;
    }
    section.hidden = own === 0;
    found += own;
  }
  $("matches").textContent = words || word ? `${found} of ${all} rows` : "";
}

// -- charts --------------------------------------------------------------------------------

let library = null;
// The charting library runs when the first drawer opens, not before.
function embed(place, spec, datasets) {
  library ??= new Promise(resolve => {
    document.head.append(make("script", {textContent: $("library").textContent}));
    resolve(window.vegaEmbed);
  });
  return library.then(draw => draw(place, {...spec, datasets}, {
    actions: false, renderer: "svg", ast: true, defaultStyle: false, tooltip: false,
  }));
}

async function plot(into, name, datasets, change = {}) {
  const place = make("div", {className: "plot"});
  into.append(place);
  const spec = (await block("data")).charts[name];
  const wide = Math.max(160, Math.min(420, place.clientWidth - 140));
  return embed(place, {...spec, width: wide, ...change}, datasets);
}

// -- parts of a drawer ---------------------------------------------------------------------

const verdict = word =>
  word ? make("span", {className: `verdict ${word.replaceAll(" ", "-")}`}, word) : null;

function command(text) {
  if (!text) return null;
  const button = make("button", {type: "button", className: "copy"}, "Copy");
  button.dataset.copy = text;
  return make("span", {className: "command"}, make("code", {}, text), button);
}

const facts = pairs => make("dl", {className: "facts"}, pairs
  .filter(([, value]) => value !== null && value !== undefined && value !== "" && value.length !== 0)
  .flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, ...[value].flat().map(v => v instanceof Node ? v : String(v)))]));

function table(header, rows) {
  const head = make("tr", {}, header.map(text => make("th", {scope: "col"}, text)));
  const body = rows.map(row => make("tr", {}, row.map(cell => make("td", {}, cell instanceof Node ? cell : cell === null ? "" : String(cell)))));
  const place = make("div", {className: "scroll", tabIndex: 0, role: "region", ariaLabel: header.join(", ")});
  place.append(make("table", {className: "text"}, make("thead", {}, head), make("tbody", {}, body)));
  return place;
}

const folded = (title, ...children) => make("details", {}, make("summary", {}, title), ...children);
const written = value => value === null ? "none" : typeof value === "object" ? JSON.stringify(value) : String(value);
const trimmed = value => value === null ? "no number" : Number(value.toPrecision(6)).toString();

function strip(cell) {
  const marks = [], seeds = cell.values.filter(v => v.value !== null)
    .map(v => ({row: "each seed", value: v.value, status: v.status}));
  const {interval, printed, margin} = cell;
  if (interval && cell.value !== null) marks.push({row: "our interval", value: cell.value, low: interval.low, high: interval.high});
  const p = printed?.value;
  if (typeof p === "number") marks.push({row: "the paper's", value: p, low: p - (margin ?? 0), high: p + (margin ?? 0)});
  return {seeds, marks};
}

function seedsPart(inside, cell) {
  const numeric = cell.values.some(v => typeof v.value === "number");
  if (!cell.values.length) return;
  inside.append(make("h3", {}, "Every seed"));
  if (numeric) {
    plot(inside, "strip", strip(cell));
    const {interval, margin, printed} = cell, texts = [];
    if (interval) texts.push(`Our interval: ${interval.kind}, ${Math.round(100 * interval.coverage)} %.`);
    if (printed && typeof margin === "number") texts.push(`The paper's: the printed number and its margin of ${trimmed(margin)}.`);
    if (texts.length) inside.append(make("p", {className: "soft"}, texts.join(" ")));
  }
  inside.append(folded("Values", table(["seed", "split", "value", "status"], cell.values.map(v => [
    v.seed, v.split, typeof v.value === "number" ? trimmed(v.value) : written(v.value), v.reason ? `${v.status}: ${v.reason}` : v.status,
  ]))));
}

function curvesPart(inside, run) {
  if (!run.history) return;
  inside.append(make("h3", {}, "Training"));
  const place = make("div", {className: "plots"});
  inside.append(place);
  for (const [name, curves] of Object.entries(run.history.series)) {
    const rows = curves.flatMap((curve, i) => curve.map((value, t) => ({
      seed: String(run.seeds[i]), step: run.history.step[t], value,
    }))).filter(row => row.value !== null);
    if (rows.length) plot(place, "history", {curves: rows}, {title: name.replaceAll("_", " "), width: 215});
  }
}

function confusionPart(inside, run) {
  if (!run.confusion) return;
  inside.append(make("h3", {}, "Confusion matrix"));
  const counts = run.confusion.flatMap((row, i) => {
    const total = row.reduce((a, b) => a + b, 0) || 1;
    return row.map((n, j) => ({truth: run.classes[i], predicted: run.classes[j], n, share: n / total}));
  });
  const size = Math.max(26, Math.min(48, 330 / run.classes.length));
  plot(inside, "confusion", {counts}, {width: {step: size}});
  inside.append(make("p", {className: "soft"}, "Test points, summed over seeds; darker is a larger share of the true class."));
}

function settingsPart(inside, run) {
  inside.append(make("h3", {}, "Hyper-parameters"));
  const keys = found => found.departures.flatMap(key => [make("a", {href: `#${key}`, className: "departure"}, key), " "]);
  if (run.differs.length) {
    inside.append(make("p", {}, "Other than in the paper:"), table(["parameter", "here", "paper", "see"], run.differs.map(found => [
      found.parameter, written(found.here), written(found.paper), make("span", {}, ...keys(found)),
    ])));
  } else inside.append(make("p", {}, "None differs from the paper's."));
  const tuned = run.tuned.map((chosen, i) => [run.seeds[i], Object.entries(chosen ?? {}).map(([k, v]) => `${k} = ${written(v)}`).join(", ")]);
  if (tuned.length) inside.append(folded("Chosen on validation points", table(["seed", "chosen"], tuned)));
  inside.append(folded(`All ${Object.keys(run.params).length}`, table(["parameter", "value"], Object.entries(run.params).map(([k, v]) => [k, written(v)]))));
}

function originPart(inside, run) {
  inside.append(make("h3", {}, "Data and origin"), facts([
    ["points", Object.entries(run.data).map(([k, v]) => `${k.replace("n_", "")} ${v}`).join(", ")],
    ["not the paper's", run.instead.join("; ")],
    ["data notes", run.notes.join("; ")],
    ["device", [run.device, `${run.threads} thread${run.threads === 1 ? "" : "s"}`, run.precision].filter(Boolean).join(", ")],
    ["time", `${Number(run.minutes.toPrecision(3))} minutes for all seeds`],
    ["commit", run.commit && run.commit + (run.dirty ? " with changes" : "")],
    ["versions", [`python ${run.python}`, ...Object.entries(run.versions).map(([k, v]) => `${k} ${v}`)].join(", ")],
    ["platform", run.platform],
    ["record", run.records.join(" ")],
    ["log", run.logs.join(" ")],
    ["features", make("code", {}, run.hashes.features)],
    ["code", make("code", {}, run.hashes.code)],
  ]));
  const splits = Object.entries(run.hashes.splits ?? {});
  if (splits.length) inside.append(folded("Hashes of the splits", table(["split", "sha256"], splits.map(([k, v]) => [k, make("code", {}, v)]))));
}

// -- drawers -------------------------------------------------------------------------------

const NUMBER = {percent: 1, points: 1, nats: 2, ece: 3};
const signed = (value, unit) => (value >= 0 ? "+" : "") + value.toFixed(NUMBER[unit] ?? 3);

async function cellOf(id) {
  const data = await block("data"), [kind, ...place] = id.split("/");
  if (kind === "a") {
    const row = data.analyses[place[0]];
    return {
      title: `${row.title}: ${row.number}`, text: trimmed(row.value), verdict: row.verdict, why: row.why, value: row.value,
      values: row.values.map((value, seed) => ({seed, split: null, value, status: "ok", reason: null})),
      interval: row.interval, printed: row.paper === null ? null : {value: row.paper, text: trimmed(row.paper)},
      margin: null, difference: null, command: row.command ?? "", run: null, unit: row.unit,
    };
  }
  const [t, i, j] = place.map(Number), found = data.tables[t];
  return {...found.cells[i][j], title: `${found.rows[i].title}: ${found.columns[j].title}`, table: found.caption};
}

let opened = null;

async function open(id) {
  opened = id;
  const cell = await cellOf(id), inside = $("inside");
  // Another cell may have been opened meanwhile.
  if (opened !== id) return;
  $("drawer-title").textContent = cell.title;
  inside.replaceChildren();
  if (!drawer.open) drawer.showModal();
  drawer.scrollTop = 0;
  inside.append(...[
    cell.table ? make("p", {className: "soft"}, cell.table) : null,
    facts([
      ["ours", cell.text],
      ["paper", cell.printed?.text && [cell.printed.text, cell.printed.source].filter(Boolean).join(", ")],
      ["difference", cell.difference === null ? "" : signed(cell.difference, cell.unit)],
      ["verdict", [verdict(cell.verdict), cell.verdict && cell.why ? ` ${cell.why}` : cell.why].filter(Boolean)],
    ]),
    cell.command ? make("h3", {}, cell.n === 0 ? "Command that makes it" : "Command that makes it again") : null,
    command(cell.command),
  ].filter(Boolean));
  seedsPart(inside, cell);
  const run = await runOf(cell.run);
  if (opened !== id) return;
  if (!run) {
    if (cell.run) inside.append(make("p", {className: "soft"}, `The record of ${cell.run} is not on the machine that made this page.`));
    return;
  }
  curvesPart(inside, run);
  confusionPart(inside, run);
  settingsPart(inside, run);
  originPart(inside, run);
}

async function copy(button) {
  let said = "Copied";
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    // A browser that does not let a file write to the clipboard: the text is selected for the user to copy.
    getSelection().selectAllChildren(button.previousSibling);
    said = "Selected; copy it with Ctrl+C";
  }
  $("said").textContent = said;
  setTimeout(() => { $("said").textContent = ""; }, 2500);
}

document.addEventListener("click", event => {
  const target = event.target.closest("button, a");
  if (!target) { if (event.target === drawer) drawer.close(); return; }
  if (target.dataset.cell) open(target.dataset.cell);
  else if (target.dataset.copy) copy(target);
  else if (target.className === "sort") sortBy(target);
  else if (target.id === "close" || target.className === "departure") drawer.close();
});
for (const name of ["words", "word"]) $(name)?.addEventListener("input", filter);
document.querySelector(".filter")?.addEventListener("submit", event => event.preventDefault());
// Print shows what is folded.
addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("main details")) part.open = true; });
