// Pictures of the graph: each fits its frame, and can be zoomed and moved. Without this script they fit.
"use strict";

const MOST = 12; // largest zoom
const STEP = 1.4; // zoom of one step
const KEYS = { "+": STEP, "=": STEP, "-": 1 / STEP };
const MOVES = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };

for (const frame of document.querySelectorAll(".frame")) activate(frame);

function activate(frame) {
  const picture = frame.querySelector("img");
  const view = { zoom: 1, x: 0, y: 0 };
  let held = null; // where the pointer was pressed, and where the picture was then

  // At least half of the picture stays in the frame.
  const limit = (value, size) => Math.max(-size * (view.zoom - 0.5), Math.min(size * 0.5, value));
  const draw = () => {
    if (view.zoom === 1) Object.assign(view, { x: 0, y: 0 });
    view.x = limit(view.x, frame.clientWidth);
    view.y = limit(view.y, frame.clientHeight);
    picture.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
    frame.classList.toggle("zoomed", view.zoom > 1);
    frame.dataset.zoom = view.zoom.toFixed(2);
  };
  const zoom = (factor, x = frame.clientWidth / 2, y = frame.clientHeight / 2) => {
    const next = Math.max(1, Math.min(MOST, view.zoom * factor));
    view.x = x - ((x - view.x) * next) / view.zoom;
    view.y = y - ((y - view.y) * next) / view.zoom;
    view.zoom = next;
    draw();
  };
  const fit = () => {
    view.zoom = 1;
    draw();
  };

  const tools = document.createElement("p");
  tools.className = "zoom";
  for (const [text, name, act] of [
    ["+", "Zoom in", () => zoom(STEP)],
    ["−", "Zoom out", () => zoom(1 / STEP)],
    ["Fit", "Fit the picture", fit],
  ]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.setAttribute("aria-label", name);
    button.addEventListener("click", act);
    tools.append(button);
  }
  frame.before(tools);

  frame.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
      event.preventDefault();
      const box = frame.getBoundingClientRect();
      zoom(event.deltaY < 0 ? STEP : 1 / STEP, event.clientX - box.left, event.clientY - box.top);
    },
    { passive: false },
  );
  frame.addEventListener("keydown", (event) => {
    if (event.key in KEYS) zoom(KEYS[event.key]);
    else if (event.key === "0") fit();
    else if (event.key in MOVES && view.zoom > 1) {
      view.x += MOVES[event.key][0];
      view.y += MOVES[event.key][1];
      draw();
    } else return;
    event.preventDefault();
  });
  frame.addEventListener("pointerdown", (event) => {
    if (view.zoom === 1) return; // a finger scrolls the page
    held = { x: event.clientX - view.x, y: event.clientY - view.y };
    frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => {
    if (!held) return;
    view.x = event.clientX - held.x;
    view.y = event.clientY - held.y;
    draw();
  });
  for (const name of ["pointerup", "pointercancel"]) frame.addEventListener(name, () => (held = null));
  draw();
}
