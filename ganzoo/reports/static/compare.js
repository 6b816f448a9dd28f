"use strict";
// Two groups, or two runs, side by side: differences with their intervals, and who wins by more than the spread.
(() => {
  const g = window.ganzoo;
  const { el, state, number, spread } = g;

  function compare() {
    const section = el("section", { id: "compare", "aria-labelledby": "h-compare" }, el("h2", { id: "h-compare" }, "Compare two"));
    const groups = state.data.groups.filter((group) => group.runs.length), now = state.compare;
    const options = [{ label: "All seeds of a recipe", options: groups.map((group) => [`group:${group.id}`, `${group.label} on ${group.dataset}`]) },
      { label: "Single runs", options: state.data.runs.map((run) => [`run:${run.id}`, `${run.architecture} on ${run.dataset}, seed ${run.seed}, ${run.name}`]) }];
    const all = options.flatMap((each) => each.options.map(([key]) => key));
    if (all.length < 2) return el("section", { id: "compare" }, el("h2", {}, "Compare two"), el("p", { class: "empty" }, "There is only one run."));
    const pair = firstPair(groups) ?? all;
    if (!all.includes(now.first)) now.first = pair[0];
    if (!all.includes(now.second)) now.second = pair.find((key) => key !== now.first) ?? all.find((key) => key !== now.first);
    const rebuild = () => { section.replaceWith(compare()); g.forgetUnseen(); };
    section.append(el("div", { class: "controls" },
      g.select("compare-first", "First", options, now.first, (value) => { now.first = value; rebuild(); document.getElementById("compare-first").focus(); }),
      el("button", { type: "button", class: "swap", "aria-label": "Exchange first and second", onclick: () => { [now.first, now.second] = [now.second, now.first]; rebuild(); } }, "⇄"),
      g.select("compare-second", "Second", options, now.second, (value) => { now.second = value; rebuild(); document.getElementById("compare-second").focus(); })));
    section.append(body(side(now.first), side(now.second)));
    return section;
  }

  // Two groups on one dataset, so that the section begins with a comparison that means something.
  function firstPair(groups) {
    for (const one of groups) {
      const other = groups.find((each) => each !== one && each.dataset === one.dataset);
      if (other) return [`group:${one.id}`, `group:${other.id}`];
    }
    return null;
  }

  function side(key) {
    const id = key.slice(key.indexOf(":") + 1);
    if (key.startsWith("group:")) {
      const group = g.groupOf(id), runs = g.runsOf(group);
      return { group, runs, label: group.label, dataset: group.dataset, cells: group.cells, run: runs.find((run) => run.film) ?? runs[0] };
    }
    const run = g.runOf(id);
    const cells = run.measurements.map((one) => {
      const column = state.data.columns.find((each) => each.dataset === run.dataset && each.score === one.score && each.digest === one.digest);
      return { column: column.id, last: { mean: one.last, std: null, values: [one.last] }, best: { mean: one.best, std: null, values: [one.best] } };
    });
    return { group: null, runs: [run], label: `${run.architecture}, seed ${run.seed}`, dataset: run.dataset, cells, run };
  }

  function body(first, second) {
    const box = el("div", {});
    const shared = first.cells.filter((cell) => second.cells.some((other) => other.column === cell.column));
    if (shared.length) box.append(table(first, second, shared));
    else box.append(el("p", { class: "empty" }, first.dataset === second.dataset ? "They have no score that was measured alike, so no number can be compared." : `They were trained on different datasets, ${first.dataset} and ${second.dataset}, so no score can be compared.`));
    const pictures = [first, second].filter((each) => each.run?.film).map((each) => {
      const frame = each.run.film.images.length - 1;
      return el("figure", {}, g.zoomable(each.run.film, () => frame, () => g.describe(each.run, frame), 260).node, el("figcaption", {}, el("b", {}, each.label), el("span", { class: "moment" }, `seed ${each.run.seed}, ${g.moment(each.run, frame)}`)));
    });
    box.append(el("div", { class: "gallery" }, pictures), chartOf(first, second, shared), recipes(first, second));
    if (shared.length) box.append(el("p", { class: "legend" }, state.data.rule));
    return box;
  }

  function table(first, second, shared) {
    const rows = shared.map((cell) => {
      const column = g.columnOf(cell.column), other = second.cells.find((each) => each.column === cell.column);
      const found = difference(first, second, column, cell, other);
      const ahead = found.winner === "first" ? first.label : second.label;
      const verdict = found.winner ? `${ahead} is better by more than the spread` : found.spread === null ? "not decided: one value has no spread" : "not told apart: within the spread";
      return el("tr", {}, el("th", { scope: "row" }, column.label, column.better === "lower" ? " ↓" : " ↑"), el("td", { class: `num${found.winner === "first" ? " wins" : ""}` }, spread(cell.last)),
        el("td", { class: `num${found.winner === "second" ? " wins" : ""}` }, spread(other.last)),
        el("td", { class: "num" }, `${found.delta > 0 ? "+" : ""}${number(found.delta, 3)}`, found.interval && el("small", {}, `95 %: ${number(found.interval[0], 3)} to ${number(found.interval[1], 3)}`)), el("td", {}, verdict));
    });
    return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Comparison" }, el("table", { class: "scores" },
      el("thead", {}, el("tr", {}, ["score", first.label, second.label, "second − first", "verdict"].map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, rows)));
  }

  // The difference that was computed for the report; of single runs only the values themselves.
  function difference(first, second, column, cell, other) {
    const none = { delta: other.last.mean - cell.last.mean, interval: null, spread: null, winner: "" };
    if (!first.group || !second.group || first.group === second.group) return none;
    for (const each of state.data.differences) {
      if (each.column !== column.id) continue;
      if (each.first === first.group.id && each.second === second.group.id) return each;
      if (each.first === second.group.id && each.second === first.group.id) {
        const turned = { first: "second", second: "first", "": "" }[each.winner];
        return { ...each, delta: -each.delta, interval: each.interval && [-each.interval[1], -each.interval[0]], winner: turned };
      }
    }
    return none;
  }

  function chartOf(first, second, shared) {
    if (!shared.length) return el("span", {});
    const column = g.columnOf(shared[0].column), place = el("div", { class: "chart" });
    place.redraw = () => g.chart(place, [first, second].map((each, index) => ({ label: each.label, runs: each.runs, colour: index })), `score:${column.score}|${column.digest}`, { height: 220 });
    return el("div", {}, el("h4", {}, column.label), el("div", { class: "keys" }, [first, second].map((each, index) => el("span", {}, g.key(index), each.label))), g.whenSeen(place, place.redraw));
  }

  // Fields that do not change what is trained.
  const UNTRAINED = new Set(["seed", "observers", "evaluators", "tick_every", "samples_every", "checkpoint_every", "score_every", "protocol", "score_samples", "best_by", "grid"]);

  // Where the recipes differ.
  function recipes(first, second) {
    if (!first.run || !second.run) return el("span", {});
    const flat = (recipe) => Object.fromEntries(Object.entries(recipe).map(([name, value]) => [name, words(value)]));
    const one = flat(first.run.recipe), other = flat(second.run.recipe);
    const names = [...new Set([...Object.keys(one), ...Object.keys(other)])].filter((name) => one[name] !== other[name] && !UNTRAINED.has(name));
    if (!names.length) return el("p", { class: "legend" }, "Their recipes are equal but for the seed.");
    return el("details", {}, el("summary", {}, `Their recipes differ in ${names.map((name) => name.replaceAll("_", " ")).join(", ")}`),
      el("table", { class: "diff" }, el("tbody", {}, names.map((name) => el("tr", {}, el("th", { scope: "row" }, name.replaceAll("_", " ")), el("td", {}, one[name] ?? "–"), el("td", {}, other[name] ?? "–"))))));
  }
  function words(value) {
    if (Array.isArray(value)) return value.map(words).join(" + ") || "none";
    if (value !== null && typeof value === "object") {
      const options = Object.entries(value.options ?? {}).map(([name, inner]) => `${name}=${inner}`).join(", ");
      return options ? `${value.name} (${options})` : String(value.name);
    }
    return String(value);
  }

  Object.assign(g, { compare });
})();
