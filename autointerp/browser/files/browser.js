"use strict";
// The token of this start comes in the fragment, which no server sees, and becomes a cookie.
(() => {
  const given = /^#token=([\w-]+)$/.exec(location.hash);
  if (!given) return;
  fetch("/session", { method: "POST", body: given[1] }).then((answer) => {
    history.replaceState(null, "", location.pathname + location.search);
    if (answer.ok && document.querySelector("[data-needs-token]")) location.reload();
  });
})();

// Keys: j and k go on and back, through the rows of a list or from unit to unit.
(() => {
  const rows = () => [...document.querySelectorAll("tr[data-row]")];
  let here = -1;
  const go = (selector) => {
    const link = document.querySelector(selector);
    if (link) location.href = link.href;
    return Boolean(link);
  };
  const step = (by) => {
    const all = rows();
    if (!all.length) return;
    here = Math.max(0, Math.min(all.length - 1, here + by));
    all.forEach((row, i) => row.classList.toggle("here", i === here));
    all[here].querySelector("a").focus({ preventScroll: true });
    all[here].scrollIntoView({ block: "nearest" });
  };
  const isUnit = document.body.dataset.page === "unit";
  document.addEventListener("focusin", (event) => {
    const row = event.target.closest("tr[data-row]");
    if (row) here = rows().indexOf(row);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input, select, textarea, [contenteditable]");
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    // A region that scrolls keeps its arrows.
    const scrolls = event.target.closest(".scroll, canvas");
    const key = event.key;
    if (isUnit) {
      if (key === "j" || (key === "ArrowRight" && !scrolls)) go("a[data-key=j]");
      else if (key === "k" || (key === "ArrowLeft" && !scrolls)) go("a[data-key=k]");
      else if (key === "u") go("a[data-key=u]");
      return;
    }
    if (key === "j") step(1);
    else if (key === "k") step(-1);
    else if (key === "n") go("a[rel=next]");
    else if (key === "p") go("a[rel=prev]");
    else if (key === "/") {
      const box = document.querySelector("input[type=search]");
      if (box) {
        event.preventDefault();
        box.focus();
        box.select();
      }
    }
  });
})();

// A bar of a distribution selects its range, a drag over several from the first to the last.
(() => {
  for (const plot of document.querySelectorAll("svg.distribution[data-field]")) {
    const field = plot.dataset.field;
    const bars = [...plot.querySelectorAll("g[data-bar]")];
    const box = (end) => document.getElementById(`${field}_${end}`);
    const bound = (end) => (box(end) && box(end).value.trim() ? Number(box(end).value) : null);
    const [least, largest] = [bound("min"), bound("max")];
    for (const bar of bars) {
      const outside = (least !== null && Number(bar.dataset.max) <= least) || (largest !== null && Number(bar.dataset.min) >= largest);
      bar.classList.toggle("out", outside);
    }
    let first = null;
    let last = null;
    const at = (event) => {
      const found = event.target.closest("g[data-bar]");
      return found ? Number(found.dataset.bar) : null;
    };
    const ends = () => [Math.min(first, last), Math.max(first, last)];
    const paint = () => {
      for (const bar of bars) {
        const n = Number(bar.dataset.bar);
        bar.classList.toggle("picked", first !== null && n >= ends()[0] && n <= ends()[1]);
      }
    };
    plot.addEventListener("pointerdown", (event) => {
      first = last = at(event);
      paint();
    });
    plot.addEventListener("pointerover", (event) => {
      if (first !== null && event.buttons) {
        last = at(event) ?? last;
        paint();
      }
    });
    window.addEventListener("pointerup", () => {
      if (first === null) return;
      const [a, b] = ends();
      first = null;
      const of = (n) => bars.find((bar) => Number(bar.dataset.bar) === n).dataset;
      box("min").value = of(a).min;
      box("max").value = of(b).max;
      box("min").form.requestSubmit();
    });
  }
})();

// Forms of one choice go at once; those that take long say so.
(() => {
  for (const form of document.querySelectorAll("form.filters")) {
    for (const choice of form.querySelectorAll("select")) {
      choice.addEventListener("change", () => form.requestSubmit());
    }
    form.addEventListener("submit", () => {
      for (const field of form.querySelectorAll("input, select")) {
        if (!field.value) field.disabled = true;
      }
    });
  }
  window.addEventListener("pageshow", () => {
    for (const field of document.querySelectorAll("form.filters input:disabled, form.filters select:disabled")) field.disabled = false;
    for (const note of document.querySelectorAll(".busy")) note.textContent = "";
  });
  for (const form of document.querySelectorAll("form[data-slow]")) {
    form.addEventListener("submit", () => {
      const note = form.querySelector(".busy");
      if (note) note.textContent = form.dataset.slow;
    });
  }
})();
