"use strict";
// Draws the points of a map, finds those whose words hold what is searched for, opens units.
(() => {
  const canvas = document.getElementById("map");
  if (!canvas) return;
  const about = document.getElementById("about");
  const tip = document.getElementById("tip");
  const box = document.getElementById("find");
  const list = document.getElementById("hits");
  const said = document.getElementById("hits-said");
  const picture = canvas.getContext("2d");
  const colours = ["#7a3b00", "#c26a1a", "#e5b57a", "#c9c9c9", "#8fb7de", "#3f82c4", "#0b4a8f"];
  const mostHits = 200;
  let points = [];
  let found = null;
  let view = { x: 0, y: 0, zoom: 1 };
  let width = 0;
  let height = 0;

  const shade = (lift) => colours[Math.max(0, Math.min(6, Math.round(3 + 3 * lift)))];
  const place = (point) => {
    const size = 0.47 * Math.min(width, height) * view.zoom;
    return [width / 2 + (point[1] - view.x) * size * Math.max(1, width / height / 1.2), height / 2 - (point[2] - view.y) * size];
  };
  const draw = () => {
    const ratio = window.devicePixelRatio || 1;
    width = canvas.clientWidth;
    height = canvas.clientHeight;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    picture.setTransform(ratio, 0, 0, ratio, 0, 0);
    picture.clearRect(0, 0, width, height);
    const style = getComputedStyle(document.body);
    const grey = style.getPropertyValue("--quiet");
    const ink = style.getPropertyValue("--ink");
    const scored = [];
    picture.fillStyle = grey;
    picture.globalAlpha = found ? 0.18 : 0.5;
    for (const point of points) {
      if (point[3] !== null) {
        scored.push(point);
        continue;
      }
      const [x, y] = place(point);
      picture.fillRect(x - 1, y - 1, 2, 2);
    }
    for (const point of scored) {
      const [x, y] = place(point);
      picture.globalAlpha = found && !found.has(point) ? 0.2 : 1;
      picture.fillStyle = shade(point[3]);
      picture.beginPath();
      picture.arc(x, y, 4, 0, 7);
      picture.fill();
      picture.strokeStyle = ink;
      picture.lineWidth = 0.5;
      picture.stroke();
    }
    picture.globalAlpha = 1;
    picture.strokeStyle = ink;
    picture.lineWidth = 2;
    for (const point of points) {
      const marked = point.name === canvas.dataset.marked;
      if (!marked && !(found && found.has(point))) continue;
      const [x, y] = place(point);
      picture.beginPath();
      picture.arc(x, y, marked ? 10 : 7, 0, 7);
      picture.stroke();
    }
  };
  const address = (point) => canvas.dataset.unitRoot + point[0] + canvas.dataset.unitEnd;
  let onlyExplained = false;
  const opens = (point) => !onlyExplained || point[4] !== "";
  const search = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hits = words.length
      ? points.filter((point) => words.every((word) => point.text.includes(word)))
      : [];
    found = words.length ? new Set(hits) : null;
    list.replaceChildren();
    for (const point of hits.slice(0, mostHits)) {
      const item = document.createElement("li");
      const link = document.createElement(opens(point) ? "a" : "span");
      if (opens(point)) link.href = address(point);
      link.textContent = point.name;
      const words = document.createElement("bdi");
      words.textContent = point[4] ? " " + point[4] : "";
      item.append(link, words);
      list.append(item);
    }
    said.textContent = words.length
      ? `${hits.length} found${hits.length > mostHits ? `, ${mostHits} are listed` : ""}`
      : "Type above to find units; they are marked on the map and listed here.";
    draw();
  };
  const nearest = (event) => {
    const area = canvas.getBoundingClientRect();
    const at = [event.clientX - area.left, event.clientY - area.top];
    let best = null;
    let least = 144;
    for (const point of points) {
      const [x, y] = place(point);
      const far = (x - at[0]) ** 2 + (y - at[1]) ** 2 - (point[3] !== null ? 25 : 0);
      if (far < least) [best, least] = [point, far];
    }
    return best;
  };
  const zoom = (by) => {
    view.zoom = Math.max(0.8, Math.min(60, view.zoom * by));
    draw();
  };
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag) {
      const size = 0.47 * Math.min(width, height) * view.zoom;
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      if (drag.moved || Math.abs(dx) + Math.abs(dy) > 4) {
        view.x -= dx / size;
        view.y += dy / size;
        drag = { x: event.clientX, y: event.clientY, moved: true };
        draw();
      }
      return;
    }
    const point = nearest(event);
    tip.hidden = !point;
    if (!point) return;
    tip.textContent = `${point.name}${point[3] === null ? "" : `, lift ${point[3].toFixed(2)}`}${point[4] ? ": " + point[4] : ""}`;
    const [x, y] = place(point);
    tip.className = "tip";
    // Places without inline style sheets: set through the object model, which the policy allows.
    tip.style.left = `${Math.min(x + 12, Math.max(0, width - 330))}px`;
    tip.style.top = `${Math.max(0, y - 12)}px`;
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("pointerup", (event) => {
    const moved = drag && drag.moved;
    drag = null;
    const point = moved ? null : nearest(event);
    if (point && opens(point)) location.href = address(point);
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = 0.2 / view.zoom;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.key in moves) {
      view.x += moves[event.key][0];
      view.y += moves[event.key][1];
      draw();
    } else if (event.key === "+" || event.key === "=") zoom(1.3);
    else if (event.key === "-") zoom(1 / 1.3);
    else if (event.key === "0") {
      view = { x: 0, y: 0, zoom: 1 };
      draw();
    } else return;
    event.preventDefault();
  });
  box.addEventListener("input", () => {
    search();
    const here = new URL(location);
    here.searchParams.set("q", box.value);
    history.replaceState(null, "", here);
  });
  window.addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  if (!canvas.dataset.points) return;
  fetch(canvas.dataset.points).then((answer) => answer.json()).then((map) => {
    if (map.error) {
      about.textContent = `There is no map: ${map.error}`;
      return;
    }
    points = map.points;
    onlyExplained = map.only_scored_open === true;
    for (const point of points) {
      point.name = `${map.source}/${point[0]}`;
      point.text = `${point.name} ${point[4]}`.toLowerCase();
    }
    const all = map.n_points === map.n_units
      ? `All ${map.n_units.toLocaleString("en")} units`
      : `${map.n_points.toLocaleString("en")} of ${map.n_units.toLocaleString("en")} units, the explained ones first and others at random`;
    const how = map.method === "pca"
      ? `by the first two principal components of their decoder directions, which hold ${(100 * map.share_of_variance).toFixed(1)} % of the variance: units far apart here write differently, near ones need not write alike`
      : "by UMAP of their decoder directions: neighbours write alike, distances between groups mean little";
    about.textContent = `${all} of ${map.source}, placed ${how}. Words by ${map.explainer}.`;
    search();
    document.body.dataset.ready = "1";
  }).catch((error) => { about.textContent = `There is no map: ${error.message}`; });
})();
