"use strict";
// Sprites: many frames in one picture at its native pixels, drawn enlarged on a canvas with gaps between the images.
(() => {
  const { el, state, count, number, whenSeen, dialog } = window.ganzoo;
  const decoded = new Map();

  function picture(uri) {
    if (!decoded.has(uri)) {
      const image = new Image();
      decoded.set(uri, new Promise((resolve) => {
        image.onload = () => resolve(image);
        image.onerror = () => resolve(null);
        image.src = uri;
      }));
      if (decoded.size > 80) decoded.delete(decoded.keys().next().value);
    }
    return decoded.get(uri);
  }

  // Draw one frame of a sprite; `crop` limits it to the first rows and columns of images.
  async function draw(canvas, sprite, frame, crop) {
    const image = await picture(sprite.image);
    if (!image) return;
    const [wide, tall] = sprite.tile;
    const rows = Math.min(sprite.rows, crop ? crop[0] : Infinity);
    const cols = Math.min(sprite.cols, crop ? crop[1] : Infinity);
    const left = (frame % sprite.columns) * sprite.width, top = Math.floor(frame / sprite.columns) * sprite.height;
    canvas.width = cols * (wide + 1) - 1;
    canvas.height = rows * (tall + 1) - 1;
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, canvas.width, canvas.height);
    for (let row = 0; row < rows; row++) {
      for (let col = 0; col < cols; col++) {
        pen.drawImage(image, left + col * wide, top + row * tall, wide, tall, col * (wide + 1), row * (tall + 1), wide, tall);
      }
    }
    canvas.dataset.frame = frame;
  }

  // The whole factor by which a picture `pixels` wide is enlarged to fill about `wanted` pixels.
  const factor = (pixels, wanted) => Math.max(1, Math.round(wanted / pixels));

  // A canvas with one frame, about `wanted` pixels wide; a click shows it at full size.
  function canvasOf(sprite, frame, text, wanted, crop) {
    const cols = Math.min(sprite.cols, crop ? crop[1] : Infinity), rows = Math.min(sprite.rows, crop ? crop[0] : Infinity);
    const canvas = el("canvas", { role: "img", "aria-label": text, title: text });
    canvas.width = cols * (sprite.tile[0] + 1) - 1;
    canvas.height = rows * (sprite.tile[1] + 1) - 1;
    const scale = factor(canvas.width, wanted);
    canvas.style.width = `${canvas.width * scale}px`;
    canvas.style.aspectRatio = `${canvas.width} / ${canvas.height}`;
    canvas.dataset.frame = frame;
    whenSeen(canvas, () => draw(canvas, sprite, Number(canvas.dataset.frame), crop));
    return canvas;
  }

  // A picture that opens at full size by click or Enter.
  function zoomable(sprite, frameNow, textNow, wanted, crop) {
    const canvas = canvasOf(sprite, frameNow(), textNow(), wanted, crop);
    const open = () => {
      const space = Math.min(window.innerWidth - 64, (window.innerHeight - 160) * sprite.width / sprite.height);
      const big = canvasOf(sprite, frameNow(), textNow(), space);
      dialog(textNow(), el("div", { class: "zoomed" }, big));
      draw(big, sprite, frameNow());
    };
    const button = el("button", { type: "button", class: "picture", "aria-label": `Enlarge: ${textNow()}`, onclick: open }, canvas);
    return { node: button, canvas, redraw: () => draw(canvas, sprite, frameNow(), crop) };
  }

  const epochOf = (run, images) => {
    const { images: seen, epoch } = run.stats;
    if (!seen || !epoch || !seen.length) return null;
    let place = seen.findIndex((value) => value >= images);
    if (place < 0) place = seen.length - 1;
    return images === 0 ? 0 : (epoch[place] * images) / seen[place];
  };
  function moment(run, frame) {
    const images = run.film.images[frame], epoch = epochOf(run, images);
    return epoch === null ? `${count(images)} images` : `epoch ${number(epoch, 3)}, ${count(images)} images`;
  }
  const describe = (run, frame) =>
    `Samples of ${run.architecture} on ${run.dataset}, seed ${run.seed}, ${moment(run, frame)}`;

  // The film of a run: a picture, a slider over its frames and a button that plays them.
  function film(run, wanted) {
    const last = run.film.images.length - 1;
    let frame = Math.min(state.frames[run.id] ?? last, last), timer = null;
    const view = zoomable(run.film, () => frame, () => describe(run, frame), wanted);
    const words = el("output", { class: "moment", for: `film-${run.id}` });
    const slider = el("input", {
      type: "range", id: `film-${run.id}`, min: 0, max: last, step: 1, value: frame, "aria-label": `Moment of the training of ${run.name}`,
      oninput: () => { stop(); show(Number(slider.value)); },
    });
    const play = el("button", { type: "button", class: "play", "aria-label": "Play the film of the training", "aria-pressed": "false",
      onclick: () => (timer === null ? start() : stop()) }, "▶");
    function show(next) {
      frame = next;
      state.frames[run.id] = next;
      slider.value = next;
      words.textContent = moment(run, next);
      slider.setAttribute("aria-valuetext", words.textContent);
      view.canvas.setAttribute("aria-label", describe(run, next));
      view.redraw();
    }
    function start() {
      if (frame === last) show(0);
      play.textContent = "❚❚";
      play.setAttribute("aria-pressed", "true");
      timer = setInterval(() => {
        if (!slider.isConnected || frame >= last) return stop();
        show(frame + 1);
      }, Math.max(90, Math.min(400, 6000 / (last + 1))));
    }
    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "▶";
      play.setAttribute("aria-pressed", "false");
    }
    words.textContent = moment(run, frame);
    slider.setAttribute("aria-valuetext", words.textContent);
    return el("div", { class: "film" }, view.node, last > 0 && el("div", { class: "strip" }, play, slider), words);
  }

  // The newest samples of a group as a small picture beside its numbers.
  function thumbnail(group) {
    const run = window.ganzoo.runsOf(group).find((each) => each.film);
    if (!run) return el("span", { class: "faint" }, "no picture");
    const frame = run.film.images.length - 1;
    return zoomable(run.film, () => frame, () => describe(run, frame), 84, [3, 3]).node;
  }

  Object.assign(window.ganzoo, { canvasOf, zoomable, film, thumbnail, describe, moment, draw });
})();
