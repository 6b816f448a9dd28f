"use strict";
// Builds the page from its data, and builds it again from newer data without losing what the reader has chosen.
(() => {
  const g = window.ganzoo;
  const { el, state, plural } = g;

  function header() {
    const { data } = state, sets = g.datasets();
    const made = data.made.replace("T", " ").replace("+00:00", " UTC");
    const failed = data.failures.length;
    const facts = [plural(data.runs.length, "run"), plural(data.groups.length, "recipe"), plural(sets.length, "dataset"), failed ? plural(failed, "failure") : null, made, `ganzoo ${data.ganzoo}`];
    const links = [["leaderboard", "Leaderboard"], ["samples", "Samples"], ["curves", "Curves"], ["compare", "Compare"], ["runs", "Runs"], ...(failed ? [["failures", "Failures"]] : [])];
    document.getElementById("top").replaceChildren(el("div", { class: "title" }, el("h1", {}, data.title), el("p", { class: "facts" }, facts.filter(Boolean).join(" · "))),
      el("nav", { "aria-label": "Sections" }, links.map(([id, text]) => el("a", { href: `#${id}` }, text))));
  }

  function failures() {
    const { failures: list } = state.data;
    if (!list.length) return null;
    return el("section", { id: "failures", "aria-labelledby": "h-failures" }, el("h2", { id: "h-failures" }, "Failures"),
      el("p", { class: "legend" }, "Trials that failed, and directories that cannot be read as a run."),
      el("ul", { class: "failures" }, list.map((one) => el("li", {}, el("code", {}, one.path), el("p", {}, one.architecture && el("b", {}, `${one.architecture} on ${one.dataset}, seed ${one.seed}: `), one.reason)))));
  }

  function build() {
    header();
    document.title = state.data.title;
    document.getElementById("main").replaceChildren(...[g.board(), g.gallery(), g.curves(), g.compare(), g.runs(), failures()].filter(Boolean));
    document.getElementById("foot").replaceChildren(el("p", {}, state.data.sources.join(" · ")));
    g.forgetUnseen();
  }

  // Show newer data. What was chosen, opened and scrolled to stays.
  window.ganzooUpdate = (data) => {
    const focused = document.activeElement?.id, top = window.scrollY;
    state.data = data;
    build();
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    window.scrollTo(0, top);
  };

  function openTarget() {
    const id = decodeURIComponent(location.hash.slice(1));
    const run = state.data.runs.find((each) => each.id === id), group = g.groupOf(id);
    if (run) { state.open.add(id); const box = document.getElementById(id); if (box) box.open = true; }
    if (group) g.openGroup(group);
  }

  const redrawCharts = () => { for (const place of document.querySelectorAll(".chart")) if (place.redraw && place.childElementCount) place.redraw(); };
  window.addEventListener("hashchange", openTarget);
  window.addEventListener("beforeprint", () => { g.printing = true; g.drawAll(); redrawCharts(); });
  window.addEventListener("afterprint", () => { g.printing = false; redrawCharts(); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawCharts);
  let waiting = null;
  window.addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(redrawCharts, 150); });

  state.data = JSON.parse(document.getElementById("data").textContent);
  build();
  if (location.hash) openTarget();
})();
