"use strict";
// The leaderboard: a table for each dataset. A column holds only values with equal cards.
(() => {
  const g = window.ganzoo;
  const { el, state, number, spread, count, plural } = g;
  const columnKey = (column) => `${column.dataset}|${column.score}|${column.digest}`;

  function board() {
    const { data } = state;
    const section = el("section", { id: "leaderboard", "aria-labelledby": "h-board" }, el("h2", { id: "h-board" }, "Leaderboard"));
    section.append(controls(), el("div", { id: "tables" }));
    section.append(el("p", { class: "legend" },
      "Mean ± standard deviation over the training seeds. Last: the generator at the end of the training. Best: the one that was kept as the ",
      "best by the run’s first score. Scores with different cards stand in columns of their own, because they cannot be compared. ★ better than ",
      "every other one of the column by more than the spread. Floor: real images scored in place of generated ones."));
    fill(section.querySelector("#tables"), data);
    return section;
  }

  function controls() {
    const change = (what) => { Object.assign(state, what); refill(); };
    const search = el("input", { type: "search", id: "filter", placeholder: "architecture, recipe, dataset", value: state.filter,
      oninput: (event) => change({ filter: event.target.value }) });
    const names = g.datasets();
    return el("div", { class: "controls" },
      el("label", { class: "field", for: "filter" }, el("span", {}, "Filter"), search),
      names.length > 1 && g.select("dataset", "Dataset", [["", "all"], ...names.map((name) => [name, name])], state.dataset,
        (value) => change({ dataset: value })),
      g.select("which", "Show", [["last", "last, and best below"], ["best", "best, and last below"]], state.which, (value) => change({ which: value })),
      chooser());
  }

  function chooser() {
    const boxes = state.data.columns.map((column, place) => {
      const key = columnKey(column);
      return g.check(`column-${place}`, `${column.label} on ${column.dataset}`, !state.hiddenColumns.has(key), (shown) => {
        if (shown) state.hiddenColumns.delete(key); else state.hiddenColumns.add(key);
        refill();
      });
    });
    return el("details", { class: "chooser" }, el("summary", {}, "Columns"), el("div", { class: "menu" }, boxes));
  }

  function refill() {
    const place = document.getElementById("tables");
    place.replaceChildren();
    fill(place, state.data);
    g.forgetUnseen();
  }

  function matches(group) {
    if (state.dataset && group.dataset !== state.dataset) return false;
    const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const text = `${group.label} ${group.architecture} ${group.dataset} ${group.row} ${Object.values(group.axes ?? {}).join(" ")}`.toLowerCase();
    return words.every((word) => text.includes(word));
  }

  function fill(place) {
    let shown = 0, hidden = 0;
    for (const dataset of g.datasets()) {
      const all = state.data.groups.filter((group) => group.dataset === dataset && matches(group));
      const groups = all.filter((group) => !state.hiddenGroups.has(group.id));
      hidden += all.length - groups.length;
      shown += groups.length;
      if (groups.length) place.append(table(dataset, groups));
    }
    if (!shown) place.append(el("p", { class: "empty" }, state.data.groups.length ? "No row fits the filter." : "There is no run to show."));
    if (hidden) {
      place.append(el("p", {}, el("button", { type: "button", id: "unhide", onclick: () => { state.hiddenGroups.clear(); refill(); } },
        `Show ${plural(hidden, "hidden row")}`)));
    }
  }

  const cellOf = (group, column) => group.cells.find((cell) => cell.column === column.id);

  function table(dataset, groups) {
    const columns = state.data.columns.filter((column) => column.dataset === dataset && !state.hiddenColumns.has(columnKey(column)));
    const sort = state.sort[dataset] ?? { by: columns[0]?.id ?? "label", turned: false };
    const axes = axesOf(groups);
    const ordered = [...groups].sort((one, other) => compareBy(sort, one, other));
    const head = el("tr", {}, el("th", { scope: "col", class: "pic" }, "samples"), heading(dataset, sort, "label", "architecture"),
      axes.map((axis) => heading(dataset, sort, `axis ${axis}`, axis)),
      columns.map((column) => heading(dataset, sort, column.id, column.label, column)),
      heading(dataset, sort, "seeds", "seeds"), heading(dataset, sort, "failures", "failures"), heading(dataset, sort, "images", "images"),
      el("th", { scope: "col" }, el("span", { class: "hide-text" }, "hide")));
    const rows = ordered.map((group) => row(group, columns, axes));
    const floor = columns.some((column) => column.floor !== null) && el("tr", { class: "floor" }, el("td", {}), el("th", { scope: "row" }, "real images (floor)"), axes.map(() => el("td", {})),
      columns.map((column) => el("td", { class: "num" }, column.floor === null ? "–" : number(column.floor),
        column.floor_images && el("small", {}, `${count(column.floor_images)} images`))), el("td", { colspan: 4 }));
    return el("div", { class: "board" }, el("h3", {}, dataset),
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Scores on ${dataset}` },
        el("table", { class: "scores" }, el("thead", {}, head), el("tbody", {}, rows), floor && el("tfoot", {}, floor))),
      scale(columns, groups));
  }

  // The columns of a study: named rows, and axes that a group of the table has a value of.
  function axesOf(groups) {
    const named = groups.some((group) => group.row) ? ["row"] : [];
    return [...named, ...new Set(groups.flatMap((group) => Object.keys(group.axes ?? {})))];
  }

  const axisText = (group, axis) => (axis === "row" ? group.row : group.axes?.[axis]) || "–";

  function value(by, group) {
    if (by.startsWith("axis ")) {
      const text = axisText(group, by.slice(5));
      return Number.isNaN(Number(text)) ? text : Number(text);
    }
    if (by === "label") return group.label;
    if (by === "seeds") return group.seeds.length;
    if (by === "failures") return group.failures.length;
    if (by === "images") return group.images;
    const cell = group.cells.find((each) => each.column === by);
    return cell ? cell[state.which].mean : null;
  }

  // Whether a column is sorted upwards at first.
  const rises = (by, column) => by === "label" || by.startsWith("axis ") || (column ? column.better === "lower" : by === "failures");

  function compareBy({ by, turned }, one, other) {
    const a = value(by, one), b = value(by, other);
    if (a === null || b === null) return (a === null) - (b === null);
    const column = g.columnOf(by), down = rises(by, column);
    const order = typeof a === "string" || typeof b === "string" ? String(a).localeCompare(String(b)) : a - b;
    return (down ? order : -order) * (turned ? -1 : 1);
  }

  function heading(dataset, sort, by, text, column) {
    const active = sort.by === by;
    const turn = () => {
      state.sort[dataset] = { by, turned: active ? !sort.turned : false };
      refill();
      document.getElementById(`sort-${dataset}-${by}`)?.focus();
    };
    const down = rises(by, column);
    const rising = down !== sort.turned;
    return el("th", { scope: "col", class: column ? "num" : "", "aria-sort": active ? (rising ? "ascending" : "descending") : "none" },
      el("button", { type: "button", class: "sort", id: `sort-${dataset}-${by}`, onclick: turn }, text, column && el("span", { class: "arrow" }, column.better === "lower" ? " ↓" : " ↑"),
        active && el("span", { class: "mark", "aria-hidden": "true" }, rising ? " ▲" : " ▼")),
      column && el("button", { type: "button", class: "card", "aria-label": `Card of ${text}`, onclick: () => card(column) }, "card"));
  }

  function row(group, columns, axes) {
    const failures = group.failures.length
      ? el("button", { type: "button", class: "bad", onclick: () => g.dialog(`Failures of ${group.label} on ${group.dataset}`,
        group.failures.map((one) => el("p", {}, el("b", {}, one.seed === null ? "" : `Seed ${one.seed}: `), one.reason))) }, group.failures.length)
      : "0";
    return el("tr", { "data-group": group.id }, el("td", { class: "pic" }, g.thumbnail(group)),
      el("th", { scope: "row" }, el("a", { href: `#${group.id}`, onclick: () => g.openGroup(group) }, axes.length ? group.name : group.label)),
      axes.map((axis) => el("td", {}, axisText(group, axis))),
      columns.map((column) => number_(group, column)), el("td", { class: "num" }, el("span", { title: `seeds ${group.seeds.join(", ")}` }, group.seeds.length)),
      el("td", { class: "num" }, failures), el("td", { class: "num" }, count(group.images)),
      el("td", {}, el("button", { type: "button", class: "hide", "aria-label": `Hide ${group.label} on ${group.dataset}`,
        onclick: () => { state.hiddenGroups.add(group.id); refill(); } }, "✕")));
  }

  function number_(group, column) {
    const cell = cellOf(group, column);
    if (!cell) return el("td", { class: "num" }, "–");
    const other = state.which === "last" ? "best" : "last";
    const range = cell.interval ? `, 95 % interval of the mean of last ${number(cell.interval[0])} to ${number(cell.interval[1])}` : "";
    const title = `${plural(cell.seeds.length, "seed")}: ${cell[state.which].values.map((each) => number(each)).join(", ")}${range}`;
    return el("td", { class: `num${cell.wins && state.which === "last" ? " wins" : ""}`, title }, cell.wins && state.which === "last" ? "★ " : "", spread(cell[state.which]),
      el("small", {}, `${other} ${spread(cell[other])}`));
  }

  function card(column) {
    const real = column.floor === null ? [] : [el("p", {}, `Floor, ${count(column.floor_images)} real images of the other split: ${number(column.floor)}.`)];
    g.dialog(`Card of ${column.label} on ${column.dataset}`, el("p", {}, `${column.better} is better. Only scores with the digest ${column.digest} can be compared.`),
      real, g.facts(column.card));
  }

  const damage = (one) => ({ none: "undamaged", noise: `noise, sd ${one.strength} of 255`, blur: `blur, sd ${one.strength} pixels`,
    "missing classes": `${one.strength} classes missing`, memorised: `${one.strength} training images repeated`,
    "other dataset": `images of ${one.strength}` })[one.damage] ?? one.damage;

  // What the values mean: groups and damaged real images in one ranking.
  function scale(columns, groups) {
    const scaled = columns.filter((column) => column.scale.length);
    if (!scaled.length) return null;
    return el("details", { class: "scale" }, el("summary", {}, "Scale: these scores beside those of damaged real images"),
      el("div", { class: "rankings" }, scaled.map((column) => {
        const sign = column.better === "lower" ? 1 : -1;
        const items = column.scale.map((one) => [one.value, damage(one), "real"]);
        for (const group of groups) {
          const cell = cellOf(group, column);
          if (cell) items.push([cell.last.mean, group.label, "ours"]);
        }
        items.sort((one, other) => sign * (one[0] - other[0]));
        const largest = Math.max(...items.map(([each]) => Math.abs(each)));
        return el("div", {}, el("h4", {}, column.label), g.calibration(column, groups, damage), el("ol", { class: "ranking" }, items.map(([each, text, kind]) => {
          const bar = el("span", { class: "meter", "aria-hidden": "true" });
          bar.style.width = `${largest ? Math.max(1, (100 * Math.abs(each)) / largest) : 1}%`;
          return el("li", { class: kind }, el("span", { class: "what" }, text), el("span", { class: "num" }, number(each)), bar);
        })));
      })));
  }

  Object.assign(g, { board, card, cellOf, refillBoard: refill });
})();
