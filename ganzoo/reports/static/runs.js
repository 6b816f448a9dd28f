"use strict";
// Samples side by side, curves with seeds as bands, and one section for each run.
(() => {
  const g = window.ganzoo;
  const { el, state, number, count, plural } = g;

  // --- samples side by side -----------------------------------------------------------------------------------------

  function gallery() {
    const section = el("section", { id: "samples", "aria-labelledby": "h-samples" }, el("h2", { id: "h-samples" }, "Samples side by side"));
    const withFilm = state.data.runs.filter((run) => run.film);
    if (!withFilm.length) return el("section", { id: "samples" }, el("h2", {}, "Samples side by side"), el("p", { class: "empty" }, "No run has saved a sample grid yet."));
    const names = g.datasets().filter((name) => withFilm.some((run) => run.dataset === name));
    const now = state.gallery;
    if (!names.includes(now.dataset)) now.dataset = names[0];
    const seeds = [...new Set(withFilm.filter((run) => run.dataset === now.dataset).map((run) => String(run.seed)))].sort((a, b) => a - b);
    if (!seeds.includes(now.seed)) now.seed = seeds[0];
    const rebuild = () => { section.replaceWith(gallery()); g.forgetUnseen(); };
    const slider = el("input", { type: "range", id: "moment", min: 0, max: 100, step: 1, value: now.moment, "aria-label": "Moment of the training, in percent",
      oninput: () => { now.moment = Number(slider.value); show(); } });
    section.append(el("div", { class: "controls" },
      names.length > 1 && g.select("gallery-dataset", "Dataset", names.map((name) => [name, name]), now.dataset, (value) => { now.dataset = value; rebuild(); }),
      seeds.length > 1 && g.select("gallery-seed", "Seed", seeds.map((seed) => [seed, seed]), now.seed, (value) => { now.seed = value; rebuild(); }),
      el("label", { class: "field wide", for: "moment" }, el("span", {}, "Moment of each training"), slider)));
    const runs = state.data.groups.filter((group) => group.dataset === now.dataset)
      .flatMap((group) => g.runsOf(group).filter((run) => run.film && String(run.seed) === now.seed).map((run) => ({ group, run })));
    const views = runs.map(({ group, run }) => {
      const frame = () => nearest(run, now.moment / 100);
      const view = g.zoomable(run.film, frame, () => g.describe(run, frame()), 300);
      const words = el("span", { class: "moment" });
      return { run, view, words, frame, node: el("figure", {}, view.node, el("figcaption", {}, el("b", {}, group.label), words, scoreLine(group, run))) };
    });
    function show() {
      for (const each of views) {
        each.words.textContent = g.moment(each.run, each.frame());
        each.view.canvas.setAttribute("aria-label", g.describe(each.run, each.frame()));
        each.view.canvas.dataset.frame = each.frame();
        each.view.redraw();
      }
    }
    for (const each of views) each.words.textContent = g.moment(each.run, each.frame());
    section.append(el("div", { class: "gallery" }, views.map((each) => each.node)), sameLatents(runs.map(({ run }) => run)));
    return section;
  }

  function nearest(run, share) {
    const { images } = run.film, wanted = share * images[images.length - 1];
    let best = 0;
    for (let place = 1; place < images.length; place++) if (Math.abs(images[place] - wanted) < Math.abs(images[best] - wanted)) best = place;
    return best;
  }

  function scoreLine(group, run) {
    return run.measurements.slice(0, 3).map((one) => el("span", { class: "score" }, `${one.score} ${number(one.last)}`));
  }

  function sameLatents(runs) {
    const known = runs.filter((run) => run.latents);
    const sets = new Map();
    for (const run of known) sets.set(run.latents, [...(sets.get(run.latents) ?? []), run.architecture]);
    const shared = [...sets.values()].filter((names) => names.length > 1);
    if (!shared.length) return el("p", { class: "legend" }, "Within a run the latents stay the same at all moments. The runs shown here have latents of their own each.");
    const words = shared.map((names) => [...new Set(names)].join(", ")).join("; ");
    return el("p", { class: "legend" }, `Within a run the latents stay the same at all moments. The same latents, tile for tile: ${words}.`);
  }

  // --- curves -------------------------------------------------------------------------------------------------------

  const LIGHT = ["#2563b0", "#c2570c", "#177245", "#8b3fa8", "#b3261e", "#0b7285", "#8a6d00", "#5c6670"];
  const DARK = ["#7eb6ff", "#ffa45c", "#63d297", "#d59bf0", "#ff8f85", "#5ad0e6", "#e6c84d", "#b4bec8"];
  const dark = () => window.matchMedia("(prefers-color-scheme: dark)").matches && !window.matchMedia("print").matches && !g.printing;
  const colour = (place) => (dark() ? DARK : LIGHT)[place % LIGHT.length];
  const ink = () => (dark() ? "#c8ccd4" : "#444a55");

  // The points of a run for "loss:generator_loss" or "score:fid-domain|digest".
  function points(run, what) {
    const [kind, name] = [what.slice(0, what.indexOf(":")), what.slice(what.indexOf(":") + 1)];
    if (kind === "score") {
      const one = run.measurements.find((each) => `${each.score}|${each.digest}` === name);
      return one ? one.points.map((point) => [point.images, point.value]) : [];
    }
    const values = run.stats[name], images = run.stats.images;
    return values && images ? images.map((x, place) => [x, values[place]]).filter(([, y]) => typeof y === "number") : [];
  }

  function at(series, x) {
    if (!series.length || x < series[0][0] || x > series[series.length - 1][0]) return null;
    let low = 0, high = series.length - 1;
    while (high - low > 1) { const middle = (low + high) >> 1; if (series[middle][0] <= x) low = middle; else high = middle; }
    const [[x0, y0], [x1, y1]] = [series[low], series[high]];
    return x1 === x0 ? y1 : y0 + ((y1 - y0) * (x - x0)) / (x1 - x0);
  }

  // Lines of the mean over runs, with a band of one standard deviation where there is more than one run.
  function bands(groups, what) {
    const all = groups.map((group) => group.runs.map((run) => points(run, what)).filter((each) => each.length));
    let grid = [...new Set(all.flat(2).map(([x]) => x))].sort((a, b) => a - b);
    if (grid.length > 300) grid = Array.from({ length: 300 }, (_, place) => grid[Math.round((place * (grid.length - 1)) / 299)]);
    const lines = all.map((runs) => {
      const mean = [], low = [], high = [];
      for (const x of grid) {
        const values = runs.map((each) => at(each, x)).filter((y) => y !== null);
        if (!values.length) { mean.push(null); low.push(null); high.push(null); continue; }
        const middle = values.reduce((a, b) => a + b, 0) / values.length;
        const deviation = values.length > 1 ? Math.sqrt(values.reduce((a, b) => a + (b - middle) ** 2, 0) / (values.length - 1)) : 0;
        mean.push(middle);
        low.push(middle - deviation);
        high.push(middle + deviation);
      }
      return { mean, low, high, banded: runs.length > 1 };
    });
    return { grid, lines };
  }

  // Draw a chart into `place`. `groups` are {label, runs, colour}; dots mark few points.
  function chart(place, groups, what, { log = false, height = 300, dots = false } = {}) {
    const { grid, lines } = bands(groups, what);
    place.replaceChildren();
    if (!grid.length) return place.append(el("p", { class: "empty" }, "There are no points yet."));
    const positive = (values) => values.map((value) => (log && value !== null && value <= 0 ? null : value));
    const series = [{ label: "images seen" }], data = [grid], fills = [];
    groups.forEach((group, index) => {
      const { mean, low, high, banded } = lines[index], paint = colour(group.colour);
      if (banded) {
        const floor = log ? low.map((value, where) => (value !== null && value <= 0 ? mean[where] : value)) : low;
        data.push(positive(high), positive(floor));
        series.push({ label: `${group.label} high`, stroke: "transparent", width: 0, points: { show: false } },
          { label: `${group.label} low`, stroke: "transparent", width: 0, points: { show: false } });
        fills.push({ series: [series.length - 2, series.length - 1], fill: `${paint}33` });
      }
      data.push(positive(mean));
      series.push({ label: group.label, stroke: paint, width: 2, dash: group.colour >= LIGHT.length ? [6, 4] : undefined, spanGaps: true,
        points: { show: dots || grid.length < 12, size: 6, fill: paint } });
    });
    const axis = { stroke: ink(), grid: { stroke: dark() ? "#ffffff1a" : "#0000001a", width: 1 }, ticks: { stroke: dark() ? "#ffffff33" : "#00000033", width: 1 }, font: "12px system-ui, sans-serif" };
    new uPlot({
      width: Math.max(240, place.clientWidth), height, series, bands: fills, legend: { show: false }, cursor: { drag: { x: true, y: false } },
      scales: { x: { time: false }, y: log ? { distr: 3 } : { range: roomy } },
      axes: [{ ...axis, values: (_, ticks) => ticks.map((tick) => g.short(tick)), label: "images seen", labelSize: 18, size: 34, labelFont: axis.font },
        { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick))) }],
      hooks: { setCursor: [(plot) => tell(plot, place, groups, lines, grid)] },
    }, data, place);
    const said = groups.map((group, index) => { const found = lines[index].mean.filter((y) => y !== null); return `${group.label} ends at ${number(found[found.length - 1])}`; });
    place.querySelector("canvas").setAttribute("role", "img");
    place.querySelector("canvas").setAttribute("aria-label", `Curves over the images seen: ${said.join("; ")}`);
    place.append(el("output", { class: "readout" }));
  }

  // The range of an axis: a little more than the values; of equal values, some room around them.
  function roomy(_, low, high) {
    if (low === null || high === null) return [0, 1];
    const room = high > low ? 0.06 * (high - low) : Math.max(Math.abs(high) * 0.1, 0.1);
    return [low - room, high + room];
  }

  function tell(plot, place, groups, lines, grid) {
    const out = place.querySelector(".readout"), index = plot.cursor.idx;
    if (!out) return;
    out.replaceChildren();
    if (index === null || index === undefined) return;
    out.append(`${count(grid[index])} images: `, ...groups.map((group, which) => el("span", {}, key(group.colour), `${group.label} ${number(lines[which].mean[index])} `)));
  }

  function key(place) {
    const box = el("span", { class: "key", "aria-hidden": "true" });
    box.dataset.colour = place % LIGHT.length;
    return box;
  }

  function quantities(runs) {
    const scores = new Map(), losses = new Set();
    for (const run of runs) {
      for (const one of run.measurements) {
        const column = state.data.columns.find((each) => each.dataset === run.dataset && each.score === one.score && each.digest === one.digest);
        scores.set(`score:${one.score}|${one.digest}`, column ? column.label : one.score);
      }
      for (const name of Object.keys(run.stats)) if (name !== "images" && name !== "epoch") losses.add(name);
    }
    return [...scores, ...[...losses].map((name) => [`loss:${name}`, name.replaceAll("_", " ")])];
  }

  // the first score that was measured more than once in a run; a loss where each has one value only
  function firstCurve(runs, choices) {
    const times = (run, name) => run.measurements.filter((one) => `score:${one.score}|${one.digest}` === name).length;
    return (choices.find(([name]) => name.startsWith("loss:") || runs.some((run) => times(run, name) > 1)) ?? choices[0])[0];
  }

  function curves() {
    const section = el("section", { id: "curves", "aria-labelledby": "h-curves" }, el("h2", { id: "h-curves" }, "Curves"));
    const now = state.curves, names = g.datasets();
    if (!names.includes(now.dataset)) now.dataset = names[0] ?? "";
    const groups = state.data.groups.filter((group) => group.dataset === now.dataset && group.runs.length);
    const choices = quantities(groups.flatMap(g.runsOf));
    if (!choices.length) return el("section", { id: "curves" }, el("h2", {}, "Curves"), el("p", { class: "empty" }, "No run has written statistics yet."));
    if (!choices.some(([name]) => name === now.what)) now.what = firstCurve(groups.flatMap(g.runsOf), choices);
    const rebuild = () => { section.replaceWith(curves()); g.forgetUnseen(); };
    const place = el("div", { class: "chart" });
    const redraw = () => chart(place, shown().map(({ group, colour: which }) => ({ label: group.label, runs: g.runsOf(group), colour: which })), now.what, { log: now.log, height: 340 });
    const shown = () => groups.map((group, index) => ({ group, colour: index })).filter(({ group }) => !now.off.has(group.id));
    section.append(el("div", { class: "controls" },
      names.length > 1 && g.select("curves-dataset", "Dataset", names.map((name) => [name, name]), now.dataset, (value) => { now.dataset = value; rebuild(); }),
      g.select("curves-what", "Curve", choices, now.what, (value) => { now.what = value; redraw(); }),
      g.check("curves-log", "logarithmic axis", now.log, (value) => { now.log = value; redraw(); })),
    el("div", { class: "keys" }, groups.map((group, index) => el("button", { type: "button", class: "legend-key", "aria-pressed": String(!now.off.has(group.id)),
      onclick: (event) => { if (now.off.has(group.id)) now.off.delete(group.id); else now.off.add(group.id); event.currentTarget.setAttribute("aria-pressed", String(!now.off.has(group.id))); redraw(); } },
    key(index), group.label))), g.whenSeen(place, redraw),
    el("p", { class: "legend" }, "Line: the mean over the seeds. Band: one standard deviation on each side. Drag to enlarge a stretch, double-click to see all."));
    place.redraw = redraw;
    return section;
  }

  // --- one run ------------------------------------------------------------------------------------------------------

  function runs() {
    const section = el("section", { id: "runs", "aria-labelledby": "h-runs" }, el("h2", { id: "h-runs" }, "Runs"),
      el("p", { class: "legend" }, "Every run with its film, curves, drawings, recipe, environment and the command that trains it again."));
    for (const group of state.data.groups) {
      section.append(el("div", { class: "group", id: group.id }, el("h3", {}, group.label, el("span", { class: "on" }, ` on ${group.dataset}`)), g.runsOf(group).map(runBox),
        group.failures.map((one) => el("p", { class: "failure" }, el("b", {}, one.seed === null ? "Failed: " : `Seed ${one.seed} failed: `), one.reason))));
    }
    return section;
  }

  function runBox(run) {
    const box = el("details", { class: "run", id: run.id, open: state.open.has(run.id) },
      el("summary", {}, el("span", { class: "who" }, `seed ${run.seed}`), el("span", { class: `state ${run.state}` }, run.state),
        el("span", {}, run.stats.epoch ? `epoch ${number(run.epoch, 3)}` : "", ` · ${count(run.images)} images`, run.seconds ? ` · ${g.seconds(run.seconds)}` : ""),
        run.measurements.slice(0, 4).map((one) => el("span", { class: "score" }, `${one.score} ${number(one.last)}`)), el("code", { class: "path" }, run.name)));
    const fill = () => { if (box.open && !box.filled) { box.filled = true; box.append(runBody(run)); } };
    box.addEventListener("toggle", () => { if (box.open) state.open.add(run.id); else state.open.delete(run.id); fill(); });
    if (state.open.has(run.id)) g.whenSeen(box, fill);
    return box;
  }

  function runBody(run) {
    const body = el("div", { class: "run-body" });
    if (run.notes.length) body.append(el("div", { class: "notes" }, run.notes.map((note) => el("p", {}, note))));
    const film = run.film ? g.film(run, 300) : el("p", { class: "empty" }, "No sample grid was saved.");
    body.append(el("div", { class: "columns" }, el("div", {}, el("h4", {}, "Samples during the training"), film), el("div", { class: "grow" }, runCurves(run))));
    body.append(drawings(run), numbers(run), el("div", { class: "columns" }, recipe(run), environment(run)), again(run));
    return body;
  }

  function runCurves(run) {
    const choices = quantities([run]);
    if (!choices.length) return el("p", { class: "empty" }, "No statistics were written.");
    const losses = choices.filter(([name]) => name.startsWith("loss:") && name.endsWith("_loss")).map(([name]) => name);
    const log = g.check(`log-${run.id}`, "logarithmic axis", Boolean(state.logs[run.id]), (value) => { state.logs[run.id] = value; places.forEach((place) => place.redraw()); });
    const places = [];
    const one = (title, series) => {
      const place = el("div", { class: "chart" });
      place.redraw = () => several(place, run, series, Boolean(state.logs[run.id]));
      places.push(place);
      return el("div", {}, el("h4", {}, title), g.whenSeen(place, place.redraw));
    };
    const nodes = [losses.length && one("Losses", losses.map((what) => [what, what.slice(5).replaceAll("_", " ")]))];
    for (const [what, label] of choices) if (what.startsWith("score:")) nodes.push(one(label, [[what, label]]));
    return el("div", { class: "run-curves" }, log, el("div", { class: "charts" }, nodes));
  }

  // Several quantities of one run in one chart, a colour each.
  function several(place, run, series, log) {
    const all = series.map(([what, label], index) => ({ label, colour: index, runs: [{ stats: { images: points(run, what).map(([x]) => x), value: points(run, what).map(([, y]) => y) }, measurements: [] }] }));
    chart(place, all, "loss:value", { log, height: 190 });
    if (all.length > 1) place.prepend(el("div", { class: "keys" }, all.map((each) => el("span", {}, key(each.colour), each.label))));
  }

  function drawings(run) {
    const box = el("div", { class: "drawings" }), d = run.drawings;
    const figure = (title, text, sprite, labels) => el("figure", {}, el("h4", {}, title),
      labels && labels.length ? el("div", { class: "labelled" }, el("ol", { class: "labels" }, labels.map((label) => el("li", {}, label))), g.zoomable(sprite, () => 0, () => `${title} of ${run.architecture} on ${run.dataset}, seed ${run.seed}`, 300).node)
        : g.zoomable(sprite, () => 0, () => `${title} of ${run.architecture} on ${run.dataset}, seed ${run.seed}`, 300).node, el("figcaption", {}, text));
    if (d.fresh) box.append(figure("Fresh samples", "Latents that the training has not used, drawn from seed 0.", d.fresh));
    if (d.interpolation) box.append(figure("Interpolations", "Each row walks from one latent to another.", d.interpolation));
    if (d.classes) box.append(figure("Classes", "A row for each class.", d.classes, d.class_names));
    if (d.neighbours) box.append(figure("Nearest training images", neighbourWords(run), d.neighbours));
    return box.childElementCount ? box : null ?? el("span", {});
  }

  function neighbourWords(run) {
    const scores = run.measurements.filter((one) => ["authenticity", "copies", "exact-copies", "twins", "distance-gap", "mifid-domain"].includes(one.score));
    const words = "Left in each row: a generated image; beside it the training images that are nearest in pixels. ";
    return words + (scores.length ? scores.map((one) => `${one.score} ${number(one.last)}`).join(", ") + "." : "The run has no memorisation scores.");
  }

  function numbers(run) {
    if (!run.measurements.length) return el("p", { class: "empty" }, "This run was not scored.");
    return el("div", { class: "scroll" }, el("table", { class: "scores" }, el("thead", {}, el("tr", {}, ["score", "last", "at", "best", "at", "card"].map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, run.measurements.map((one) => el("tr", {}, el("th", { scope: "row" }, one.score, one.better === "lower" ? " ↓" : " ↑"), el("td", { class: "num" }, number(one.last), one.fakes.length > 1 && el("small", {}, `${plural(one.fakes.length, "choice")} of fakes: ${number(Math.min(...one.fakes))} to ${number(Math.max(...one.fakes))}`)),
        el("td", { class: "num" }, count(one.last_images)), el("td", { class: "num" }, number(one.best)), el("td", { class: "num" }, count(one.best_images)),
        el("td", {}, el("button", { type: "button", class: "card", onclick: () => g.dialog(`Card of ${one.score}`, g.facts(one.card)) }, one.digest.slice(0, 6))))))));
  }

  function recipe(run) {
    const box = el("div", { class: "grow" }, el("h4", {}, "Recipe"));
    if (run.changes === null) box.append(el("p", {}, "The architecture is not installed here, or is code in a file, so this is the whole recipe and not the difference to its own."), whole(run));
    else if (!run.changes.length) box.append(el("p", {}, `As ${run.architecture} has it by itself.`));
    else {
      box.append(el("table", { class: "diff" }, el("thead", {}, el("tr", {}, ["", "own recipe", "this run"].map((text) => el("th", { scope: "col" }, text)))),
        el("tbody", {}, run.changes.map((one) => el("tr", {}, el("th", { scope: "row" }, one.name.replaceAll("_", " ")), el("td", {}, el("del", {}, one.own)), el("td", {}, el("ins", {}, one.here)))))));
    }
    if (run.changes !== null) box.append(el("details", {}, el("summary", {}, "The whole recipe"), whole(run)));
    return box;
  }
  const whole = (run) => g.facts(run.recipe);

  function environment(run) {
    return el("div", { class: "grow" }, el("h4", {}, "Environment"), Object.keys(run.environment).length ? g.facts(run.environment) : el("p", { class: "empty" }, "It was not recorded."));
  }

  function again(run) {
    const text = el("pre", { tabindex: 0 }, run.command);
    const box = el("div", {}, el("h4", {}, "Train it again"), el("div", { class: "command" }, text, copyButton(() => run.command, text)));
    if (run.toml) {
      const file = el("pre", { tabindex: 0 }, run.toml);
      box.append(el("p", {}, "with this as recipe.toml:"), el("div", { class: "command" }, file, copyButton(() => run.toml, file)));
    }
    return box;
  }

  function copyButton(text, node) {
    return el("button", { type: "button", class: "copy", onclick: async (event) => {
      const button = event.currentTarget;
      try {
        await navigator.clipboard.writeText(text());
        button.textContent = "copied";
      } catch {
        window.getSelection().selectAllChildren(node);  // without permission the text is selected, to be copied by hand
        button.textContent = "selected";
      }
      setTimeout(() => { button.textContent = "copy"; }, 2000);
    } }, "copy");
  }

  function openGroup(group) {
    const first = group.runs[0];
    if (first) { state.open.add(first); const box = document.getElementById(first); if (box) box.open = true; }
  }

  Object.assign(g, { gallery, curves, runs, openGroup, chart, several, key, nearest });
})();
