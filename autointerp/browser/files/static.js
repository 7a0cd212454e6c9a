"use strict";
// The list of a folder without a server: pages of JSON in the order of lift, read as far as needed.
(() => {
  const table = document.querySelector("#units tbody");
  if (!table) return;
  const form = document.getElementById("filters");
  const said = document.getElementById("said");
  const next = document.getElementById("next");
  const previous = document.getElementById("previous");
  const shownRows = 50;
  const most = 20000; // units of a view that are all read for another order
  const pages = new Map();
  let state = {};
  let turn = 0;

  const load = (path) => {
    if (!pages.has(path)) {
      pages.set(path, fetch(path).then((answer) => {
        if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
        return answer.json();
      }));
    }
    return pages.get(path);
  };
  const number = (text) => {
    const value = Number.parseFloat(text);
    return Number.isFinite(value) ? value : null;
  };
  const dash = (value) => (value === null ? "–" : value.toFixed(2).replace("-", "−"));
  const percent = (share) => {
    const value = 100 * share;
    if (value === 0 || value >= 10) return `${value.toFixed(0)} %`;
    return `${value >= 1 ? value.toFixed(1) : Number(value.toPrecision(2))} %`;
  };
  const matcher = () => {
    const words = (state.q || "").toLowerCase().split(/\s+/).filter(Boolean);
    const bounds = ["lift", "score", "density"].map((name) => [name, number(state[`${name}_min`]), number(state[`${name}_max`])]);
    return (row) => {
      if (state.source && row.source !== state.source) return false;
      if (state.status && row.status !== state.status) return false;
      for (const [name, low, high] of bounds) {
        if (low === null && high === null) continue;
        if (row[name] === null || (low !== null && row[name] < low) || (high !== null && row[name] > high)) return false;
      }
      const text = words.length ? (row.text || "").toLowerCase() : "";
      return words.every((word) => text.includes(word));
    };
  };
  const opened = (raw) => {
    const [unit, address, text, lift, low, high, score, density, status] = raw;
    const at = unit.lastIndexOf("/");
    return { unit, address, text, lift, low, high, score, density, status, source: unit.slice(0, at), index: Number.parseInt(unit.slice(at + 1), 10) };
  };
  const cell = (kind, content, label) => {
    const one = document.createElement("td");
    one.className = kind;
    if (label) one.dataset.label = label;
    one.append(...content);
    return one;
  };
  const span = (kind, text) => {
    const one = document.createElement(kind === "bdi" ? "bdi" : "span");
    if (kind !== "bdi") one.className = kind;
    one.textContent = text;
    return one;
  };
  const drawn = (row) => {
    const line = document.createElement("tr");
    line.dataset.row = "";
    const head = document.createElement("th");
    head.scope = "row";
    const link = document.createElement("a");
    link.href = row.address;
    link.append(span("bdi", row.unit));
    head.append(link);
    line.append(
      head,
      cell("words", [row.text ? span("bdi", row.text) : span("quiet", "no explanation")]),
      cell("n", [dash(row.lift), ...(row.low === null ? [] : [" ", span("iv", `${dash(row.low)} to ${dash(row.high)}`)])], "lift"),
      cell("n", [dash(row.score)], "score"),
      cell("n", [percent(row.density)], "density"),
      cell("", [span(`status ${row.status}`, row.status.replaceAll("_", " "))]),
    );
    return line;
  };
  const every = async (facts, view) => {
    const all = [];
    for (let i = 0; i < facts.pages; i += 1) {
      all.push(...(await load(`data/${view}/${i}.json`)).map(opened));
    }
    return all;
  };
  const show = async () => {
    const mine = (turn += 1);
    const index = await load("data/index.json");
    const view = state.view || document.getElementById("units").dataset.best;
    const facts = index.views[view];
    const fits = matcher();
    const skip = shownRows * Math.max(0, Number.parseInt(state.page || "0", 10) || 0);
    let rows = [];
    let isAll = true;
    const sort = state.sort || "lift";
    const isLarge = facts.n > most;
    if (sort !== "lift" && !isLarge) {
      rows = (await every(facts, view)).filter(fits);
      const key = (row) => (row[sort] === null ? Number.NEGATIVE_INFINITY : row[sort]);
      if (sort === "unit") rows.sort((a, b) => (a.source < b.source ? -1 : a.source > b.source ? 1 : a.index - b.index));
      else rows.sort((a, b) => key(b) - key(a));
    } else {
      for (let i = 0; i < facts.pages; i += 1) {
        said.textContent = `Reading page ${i + 1} of ${facts.pages} …`;
        rows.push(...(await load(`data/${view}/${i}.json`)).map(opened).filter(fits));
        if (mine !== turn) return;
        if (isLarge && rows.length > skip + shownRows) {
          isAll = i + 1 === facts.pages;
          break;
        }
      }
    }
    if (mine !== turn) return;
    table.replaceChildren(...rows.slice(skip, skip + shownRows).map(drawn));
    const ordered = sort !== "lift" && isLarge ? " They are in the order of lift: other orders need `autointerp view`." : "";
    said.textContent = `${rows.length.toLocaleString("en")}${isAll ? "" : " or more"} of ${facts.n.toLocaleString("en")} units${rows.length > shownRows ? `, from ${skip + 1}` : ""}.${ordered}`;
    previous.hidden = skip === 0;
    next.hidden = rows.length <= skip + shownRows;
    document.body.dataset.ready = "1";
  };
  const write = (changes, { page = "0" } = {}) => {
    state = { ...state, ...changes, page };
    const kept = Object.entries(state).filter(([name, value]) => value && !(name === "page" && value === "0"));
    history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
    show().catch((error) => { said.textContent = `The list cannot be read (${error.message}): a folder like this needs a web host, such as python -m http.server.`; });
  };
  const read = () => {
    state = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    for (const field of form.elements) {
      if (!field.name) continue;
      const value = state[field.name];
      if (value !== undefined) field.value = value;
    }
    write({}, { page: state.page || "0" });
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => write({ [event.target.name]: event.target.value }));
  next.addEventListener("click", () => write({}, { page: String((Number.parseInt(state.page, 10) || 0) + 1) }));
  previous.addEventListener("click", () => write({}, { page: String(Math.max(0, (Number.parseInt(state.page, 10) || 0) - 1)) }));
  window.addEventListener("hashchange", read);
  read();
})();
