// What fingers and keys do over the chart: swipe to move, pinch to zoom, arrows to read value by value.

export function gestures(place, { plotOf, onMove, onZoom, onReset }) {
  const fingers = new Map();
  let start = null;
  const spread = () => { const [a, b] = [...fingers.values()]; return Math.abs(a.x - b.x); };
  const middle = () => [...fingers.values()].reduce((sum, each) => sum + each.x, 0) / fingers.size;
  place.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch") return;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    start = { x: middle(), spread: fingers.size === 2 ? Math.max(spread(), 1) : 0, fingers: fingers.size };
  });
  place.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const plot = plotOf();
    const box = plot?.over.getBoundingClientRect();
    if (fingers.size === 1 && plot) plot.setCursor({ left: event.clientX - box.left, top: event.clientY - box.top });
  });
  const end = (event) => {
    const plot = plotOf();
    if (!fingers.has(event.pointerId) || !start || !plot) return;
    const width = plot.over.clientWidth;
    if (event.type === "pointerup") {
      if (start.fingers === 2 && fingers.size === 2) {
        const ratio = Math.max(spread(), 1) / start.spread;
        if (ratio > 1.2 || ratio < 0.8) onZoom(1 / ratio);
      } else if (start.fingers === 1) {
        const by = (start.x - middle()) / width;
        if (Math.abs(by) > 0.15) onMove(by);
      }
    }
    fingers.delete(event.pointerId);
    start = fingers.size ? { ...start, fingers: 0 } : null;
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
