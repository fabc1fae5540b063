// What fingers and keys do over the chart: swipe to move, pinch to zoom, arrows to read value by value.

export function gestures(place, { plotOf, onMove, onZoom, onReset }) {
  const fingers = new Map(); // where each is, from the left
  let start = null;
  const spread = () => Math.max(1, Math.max(...fingers.values()) - Math.min(...fingers.values()));
  const middle = () => [...fingers.values()].reduce((sum, each) => sum + each, 0) / fingers.size;
  place.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch") return;
    fingers.set(event.pointerId, event.clientX);
    start = { x: middle(), spread: spread(), fingers: fingers.size };
  });
  place.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, event.clientX);
    const plot = plotOf();
    const box = plot?.over.getBoundingClientRect();
    if (fingers.size === 1 && plot) plot.setCursor({ left: event.clientX - box.left, top: event.clientY - box.top });
  });
  const end = (event) => {
    const plot = plotOf();
    if (plot && start && fingers.has(event.pointerId) && event.type === "pointerup") {
      const [ratio, by] = [spread() / start.spread, (start.x - middle()) / plot.over.clientWidth];
      if (start.fingers === 2 && (ratio > 1.2 || ratio < 0.8)) onZoom(1 / ratio);
      if (start.fingers === 1 && Math.abs(by) > 0.15) onMove(by);
    }
    fingers.delete(event.pointerId);
    start = null; // what is left of two fingers is no gesture of its own
  };
  place.addEventListener("pointerup", end);
  place.addEventListener("pointercancel", end);
  place.addEventListener("dblclick", onReset);
  place.addEventListener("keydown", (event) => {
    const plot = plotOf();
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!plot || !by || !plot.data[0].length) return;
    event.preventDefault();
    const last = plot.data[0].length - 1;
    const row = Math.min(last, Math.max(0, plot.cursor.idx == null ? (by > 0 ? 0 : last) : plot.cursor.idx + by));
    plot.setCursor({ left: plot.valToPos(plot.data[0][row], "x"), top: plot.over.clientHeight / 2 });
  });
}
