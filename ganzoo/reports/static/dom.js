"use strict";
// Small helpers of the page. Text always becomes a text node, so no name can become markup.
window.ganzoo = (() => {
  const state = {
    data: null, filter: "", dataset: "", which: "last", sort: {}, hiddenColumns: new Set(), hiddenGroups: new Set(),
    gallery: { dataset: "", seed: "", moment: 100 }, curves: { dataset: "", what: "", log: false, off: new Set() },
    compare: { first: "", second: "" }, open: new Set(), frames: {}, logs: {}, runFilter: "",
  };

  // el("p", {class: "x", onclick: f}, "text", node, [nodes]) is an element with attributes and children.
  function el(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key === "value") node.value = value;
      else if (value === true) node.setAttribute(key, "");
      else node.setAttribute(key, value);
    }
    for (const child of children.flat(3)) {
      if (child === null || child === undefined || child === false) continue;
      node.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
    return node;
  }

  const known = (value) => value !== null && value !== undefined && value !== "";
  function number(value, digits = 4) {
    if (typeof value !== "number" || !Number.isFinite(value)) return known(value) ? String(value) : "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e6 || size < 1e-4) return value.toExponential(2);
    return String(Number(value.toPrecision(size >= 10 ** digits ? Math.ceil(Math.log10(size)) : digits)));
  }
  const count = (value) => (typeof value === "number" ? value.toLocaleString("en-US") : "–");
  function short(value) {
    if (value >= 1e6) return `${number(value / 1e6, 3)}M`;
    return value >= 1e3 ? `${number(value / 1e3, 3)}k` : number(value, 3);
  }
  function seconds(value) {
    if (typeof value !== "number") return "–";
    if (value < 120) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
    return value < 7200 ? `${(value / 60).toFixed(0)} min` : `${(value / 3600).toFixed(1)} h`;
  }
  const spread = (found) => number(found.mean) + (found.std === null ? "" : ` ± ${number(found.std, 2)}`);
  const plural = (n, noun, more = `${noun}s`) => `${count(n)} ${n === 1 ? noun : more}`;

  // A chooser: options are [value, text] or {label, options} for a group of them.
  function select(id, label, options, value, change) {
    const one = ([key, text]) => el("option", { value: key, selected: key === value }, text);
    const nodes = options.map((each) =>
      Array.isArray(each) ? one(each) : el("optgroup", { label: each.label }, each.options.map(one)));
    const box = el("select", { id, onchange: (event) => change(event.target.value) }, nodes);
    return el("label", { class: "field", for: id }, el("span", {}, label), box);
  }
  function check(id, label, checked, change) {
    const box = el("input", { type: "checkbox", id, checked, onchange: (event) => change(event.target.checked) });
    return el("label", { class: "check", for: id }, box, el("span", {}, label));
  }

  // A dialog over the page; closed by its button, by Escape, or by a click beside it.
  function dialog(title, ...content) {
    const box = el("dialog", { "aria-label": title });
    box.append(
      el("div", { class: "bar" }, el("h2", {}, title),
        el("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => box.close() }, "✕")),
      el("div", { class: "body" }, content));
    box.addEventListener("close", () => box.remove());
    box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
    document.body.append(box);
    box.showModal();
    return box;
  }

  // Plain data as a nested list of names and values.
  function facts(value) {
    if (value === null || typeof value !== "object") return document.createTextNode(known(value) ? String(value) : "–");
    const pairs = Object.entries(value);
    if (!pairs.length) return document.createTextNode("none");
    if (Array.isArray(value) && value.every((each) => each === null || typeof each !== "object")) {
      return document.createTextNode(value.map(String).join(", "));
    }
    return el("dl", {}, pairs.map(([name, inner]) => [el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, facts(inner))]));
  }

  // Call `draw` once a node comes near the window, and at once where the page is printed.
  const waiting = new Map();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) now(entry.target);
  }, { rootMargin: "400px" });
  function now(node) {
    const draw = waiting.get(node);
    waiting.delete(node);
    watcher.unobserve(node);
    if (draw && node.isConnected) draw();
  }
  function whenSeen(node, draw) {
    waiting.set(node, draw);
    watcher.observe(node);
    return node;
  }
  function drawAll() { for (const node of [...waiting.keys()]) now(node); }
  function forgetUnseen() { for (const node of [...waiting.keys()]) if (!node.isConnected) { waiting.delete(node); watcher.unobserve(node); } }

  const runOf = (id) => state.data.runs.find((run) => run.id === id);
  const groupOf = (id) => state.data.groups.find((group) => group.id === id);
  const columnOf = (id) => state.data.columns.find((column) => column.id === id);
  const runsOf = (group) => group.runs.map(runOf).filter(Boolean);
  const datasets = () => [...new Set(state.data.groups.map((group) => group.dataset))];

  return { state, el, number, count, short, seconds, spread, plural, select, check, dialog, facts, whenSeen, drawAll,
    forgetUnseen, runOf, groupOf, columnOf, runsOf, datasets, known };
})();
