"use strict";
// A page that a server keeps up to date: each message says that there are newer data.
(() => {
  const { el } = window.ganzoo;
  const mark = el("span", { class: "live", role: "status" }, "live");
  document.getElementById("top").append(mark);
  let shown = -1, loading = false, wanted = -1;
  async function load() {
    if (loading) return;
    loading = true;
    try {
      while (wanted !== shown) {
        const version = wanted;
        const answer = await fetch("/data.json", { cache: "no-store" });
        if (!answer.ok) break;
        window.ganzooUpdate(await answer.json());
        shown = version;
      }
    } catch (error) {
      mark.textContent = "waiting for the server";
    } finally {
      loading = false;
      document.getElementById("top").append(mark);
    }
  }
  const events = new EventSource("/events");
  events.onopen = () => { mark.textContent = "live"; };
  events.onerror = () => { mark.textContent = "waiting for the server"; };
  events.onmessage = (message) => {
    try { wanted = JSON.parse(message.data).version; } catch (error) { return; }
    load();
  };
})();
