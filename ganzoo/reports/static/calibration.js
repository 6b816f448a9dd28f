"use strict";
// The calibration plot of a score: real images that were damaged more and more, beside the floor and the generators.
(() => {
  const g = window.ganzoo;
  const { number } = g;
  const WIDTH = 520, LEFT = 118, RIGHT = 26, ROW = 34, TOP = 26, BOTTOM = 34;
  const KINDS = { noise: "noise", blur: "blur", "missing classes": "classes missing", memorised: "repeated images", "other dataset": "other dataset" };

  function svg(name, attributes, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children.flat(Infinity));
    return node;
  }

  // Where a value is on the horizontal axis, and the ticks of the axis. It is logarithmic over a wide range.
  function axis(values) {
    const low = Math.min(...values), high = Math.max(...values), log = low > 0 && high > 30 * low;
    const of = log ? Math.log10 : (value) => value;
    const from = of(low), span = of(high) - from || 1;
    const place = (value) => LEFT + ((WIDTH - LEFT - RIGHT) * (of(value) - from)) / span;
    const step = 10 ** Math.floor(Math.log10((high - low || 1) / 3));
    const stride = [1, 2, 5, 10].map((factor) => factor * step).find((one) => (high - low) / one <= 5);
    const ticks = [];
    if (log) for (let power = Math.ceil(from); 10 ** power <= high; power += 1) ticks.push(10 ** power);
    else for (let index = Math.ceil(low / stride); index * stride <= high + 1e-9 * stride; index += 1) ticks.push(Number((index * stride).toPrecision(12)));
    return { place, ticks, log };
  }

  // Dots with labels; a label that would touch the one before it is left out, and still there when the pointer rests.
  function dots(items, y, place, kind) {
    let free = -Infinity;
    return items.map(([value, label, title]) => {
      const x = place(value), half = 3.2 * label.length;
      const parts = [svg("circle", { cx: x, cy: y, r: 4.5, class: kind }, svg("title", {}, document.createTextNode(`${title}: ${number(value)}`)))];
      if (label && x - half > free) {
        free = x + half + 4;
        parts.push(svg("text", { x: Math.min(x, WIDTH - half), y: y - 9, "text-anchor": "middle", class: "tick" }, label));
      }
      return parts;
    });
  }

  function calibration(column, groups, damage) {
    const ours = groups.map((group) => [g.cellOf(group, column), group.label]).filter(([cell]) => cell)
      .map(([cell, label]) => [cell.last.mean, "", label]).sort((one, other) => one[0] - other[0]);
    const start = column.scale.find((one) => one.damage === "none");
    const floor = column.floor ?? start?.value ?? null;
    const kinds = [...new Set(column.scale.map((one) => one.damage))].filter((kind) => kind !== "none");
    const { place, ticks, log } = axis([...column.scale.map((one) => one.value), ...ours.map(([value]) => value), ...(floor === null ? [] : [floor])]);
    const rows = [...(ours.length ? [["generators", ours, "ours"]] : []), ...kinds.map((kind) => {
      const found = column.scale.filter((one) => one.damage === kind);
      return [KINDS[kind] ?? kind, found.map((one) => [one.value, String(one.strength), damage(one)]), "real"];
    })];
    const bottom = TOP + ROW * rows.length;
    const title = `${column.label} of damaged real images${log ? ", logarithmic" : ""}; ${column.better} is better`;
    return svg("svg", { viewBox: `0 0 ${WIDTH} ${bottom + BOTTOM}`, class: "calibration", role: "img", "aria-label": title },
      ticks.map((tick) => [svg("line", { x1: place(tick), x2: place(tick), y1: TOP, y2: bottom, class: "grid" }),
        svg("text", { x: place(tick), y: bottom + 14, "text-anchor": "middle", class: "tick" }, number(tick))]),
      floor === null ? [] : [svg("line", { x1: place(floor), x2: place(floor), y1: TOP - 8, y2: bottom, class: "floor" }),
        svg("text", { x: Math.max(LEFT, place(floor) - 4), y: TOP - 12, class: "tick floor" }, `floor ${number(floor)}`)],
      rows.map(([label, items, kind], index) => {
        const y = TOP + ROW * (index + 0.62), path = [...(start ? [start.value] : []), ...items.map(([value]) => value)];
        return [svg("text", { x: LEFT - 12, y: y + 4, "text-anchor": "end", class: kind }, label),
          kind === "real" ? svg("polyline", { points: path.map((value) => `${place(value)},${y}`).join(" "), class: "way" }) : [], dots(items, y, place, kind)].flat(2);
      }),
      svg("text", { x: WIDTH - RIGHT, y: bottom + 28, "text-anchor": "end", class: "tick" }, title));
  }

  Object.assign(g, { calibration });
})();
