"use strict";
// The map of the page. The classes are read as numbers out of the PNG itself, not from a canvas: browsers that guard
// against fingerprinting answer a canvas with changed colours. Where something of this does not work, the plain
// pictures that are in the page anyway stay.
(() => {
  const $ = (id) => document.getElementById(id);
  const frame = $("map");
  const NO_DATA = 0, OUTSIDE = 255;
  const NEAREST = 48; // picture elements of the screen that a pixel of the map takes at most

  // A palette PNG of one byte a pixel without filters, as eearth writes it -> its size and its numbers.
  const numbersOf = async (image) => {
    const text = atob(image.src.split(",")[1]);
    const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const parts = [];
    let width = 0, height = 0;
    for (let at = 8; at < bytes.length; at += view.getUint32(at) + 12) {
      const kind = text.slice(at + 4, at + 8);
      if (kind === "IHDR") [width, height] = [view.getUint32(at + 8), view.getUint32(at + 12)];
      if (kind === "IDAT") parts.push(bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
    }
    const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
    const rows = new Uint8Array(await new Response(stream).arrayBuffer());
    const values = new Uint8Array(width * height);
    for (let row = 0; row < height; row++) {
      const start = row * (width + 1) + 1;
      if (rows[start - 1] !== 0) throw new Error("a filtered row");
      values.set(rows.subarray(start, start + width), row * width);
    }
    return { width, height, values };
  };

  const start = async () => {
    const facts = JSON.parse($("map-data").textContent);
    const codes = await numbersOf($("classes-image"));
    const layers = {};
    for (const [name, most] of Object.entries(facts.most)) {
      if ($(`${name}-image`)) layers[name] = { most, ...await numbersOf($(`${name}-image`)) };
    }
    const imagery = $("imagery-image");
    if (imagery) await imagery.decode();

    const canvas = $("map-canvas"), pen = canvas.getContext("2d");
    const sheet = document.createElement("canvas");
    [sheet.width, sheet.height] = [codes.width, codes.height];
    const sheetPen = sheet.getContext("2d"), pixels = sheetPen.createImageData(codes.width, codes.height);
    const words = new Uint32Array(pixels.data.buffer);
    const packed = (colour) => {
      const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
      return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0; // little-endian, as all present machines are
    };
    const hidden = new Set();
    let opacity = 0.8, over = null; // the layer in place of the classes
    let scale = 1, left = 0, top = 0; // of the map's upper left corner, in CSS pixels
    let fitting = true;

    const paint = () => {
      const shown = new Uint32Array(256), ramp = new Uint32Array(256);
      for (const [code, entry] of Object.entries(facts.classes)) {
        shown[code] = hidden.has(Number(code)) ? 0 : packed(entry.colour);
      }
      if (over) {
        const colours = facts.ramp.map(packed);
        for (let value = 0; value <= over.most; value++) ramp[value] = colours[Math.round(value / over.most * (colours.length - 1))];
      }
      for (let at = 0; at < words.length; at++) {
        const own = shown[codes.values[at]];
        words[at] = own && over ? ramp[over.values[at]] : own;
      }
      sheetPen.putImageData(pixels, 0, 0);
      draw();
    };

    const draw = () => {
      const dense = window.devicePixelRatio || 1;
      const width = Math.round(frame.clientWidth * dense), height = Math.round(frame.clientHeight * dense);
      if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, width, height);
      pen.setTransform(dense * scale, 0, 0, dense * scale, dense * left, dense * top);
      if (imagery) {
        pen.globalAlpha = 1;
        pen.imageSmoothingEnabled = scale * facts.across < codes.width;
        pen.drawImage(imagery, 0, 0, facts.across, facts.down);
      }
      pen.globalAlpha = opacity;
      pen.imageSmoothingEnabled = false;
      pen.drawImage(sheet, 0, 0, facts.across, facts.down);
      drawScale();
    };

    const drawScale = () => {
      const room = facts.metres / scale * Math.min(160, frame.clientWidth / 3);
      const power = 10 ** Math.floor(Math.log10(room));
      const length = [5, 2, 1].map((factor) => factor * power).find((metres) => metres <= room);
      $("scale-bar").style.width = `${length / facts.metres * scale}px`;
      $("scale-text").textContent = length >= 1000 ? `${length / 1000} km` : `${Number(length.toPrecision(1))} m`;
    };

    const fit = () => Math.min(frame.clientWidth / facts.across, frame.clientHeight / facts.down);
    const settled = (place, length, room) => length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, place));
    const move = (x, y, to) => {
      scale = Math.min(Math.max(to, fit()), Math.max(NEAREST, fit()));
      fitting = scale <= fit() * 1.0001;
      frame.classList.toggle("close", !fitting);
      left = settled(x, scale * facts.across, frame.clientWidth);
      top = settled(y, scale * facts.down, frame.clientHeight);
      draw();
    };
    const whole = () => move(0, 0, fit());
    const zoom = (factor, x = frame.clientWidth / 2, y = frame.clientHeight / 2) => {
      const to = Math.min(Math.max(scale * factor, fit()), Math.max(NEAREST, fit()));
      move(x - (x - left) / scale * to, y - (y - top) / scale * to, to);
    };

    const lonlat = (across, down) => {
      const { side, longitude, latitude } = facts.lonlat;
      const col = Math.min(across / facts.across * (side - 1), side - 1.000001);
      const row = Math.min(down / facts.down * (side - 1), side - 1.000001);
      const at = Math.floor(row) * side + Math.floor(col), x = col % 1, y = row % 1;
      const [east, north] = [longitude, latitude].map((of) => (1 - y) * ((1 - x) * of[at] + x * of[at + 1])
        + y * ((1 - x) * of[at + side] + x * of[at + side + 1]));
      const wrapped = east - 360 * Math.floor((east + 180) / 360);
      return `${Math.abs(north).toFixed(5)}° ${north < 0 ? "S" : "N"}, ${Math.abs(wrapped).toFixed(5)}° ${wrapped < 0 ? "W" : "E"}`;
    };
    const told = (x, y) => {
      const across = (x - left) / scale, down = (y - top) / scale;
      if (across < 0 || down < 0 || across >= facts.across || down >= facts.down) return "";
      const row = Math.floor(down / facts.down * codes.height), col = Math.floor(across / facts.across * codes.width);
      const code = codes.values[row * codes.width + col];
      const parts = [code === NO_DATA ? "no data" : facts.classes[code].name];
      for (const [name, layer] of Object.entries(layers)) {
        const value = layer.values[row * codes.width + col];
        if (value !== OUTSIDE && code !== NO_DATA) parts.push(`${name} ${value} %`);
      }
      if (facts.lonlat) parts.push(lonlat(across, down));
      return parts.join(" · ");
    };
    const read = (x, y) => { $("readout").textContent = told(x, y); };
    const say = (text) => { $("status").textContent = text; };

    // ---- mouse and touch: one finger pans a map that is zoomed in, and otherwise scrolls the page; two zoom
    const held = new Map();
    const middle = () => {
      const points = [...held.values()], box = frame.getBoundingClientRect();
      const x = points.reduce((sum, point) => sum + point.x, 0) / points.length - box.left;
      const y = points.reduce((sum, point) => sum + point.y, 0) / points.length - box.top;
      const apart = points.length > 1 ? Math.hypot(points[0].x - points[1].x, points[0].y - points[1].y) : 0;
      return { x, y, apart };
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      held.set(event.pointerId, { x: event.clientX, y: event.clientY });
      frame.focus({ preventScroll: true });
      $("cross").hidden = true;
    });
    canvas.addEventListener("pointermove", (event) => {
      const box = frame.getBoundingClientRect();
      if (!held.has(event.pointerId)) return read(event.clientX - box.left, event.clientY - box.top);
      const before = middle();
      held.set(event.pointerId, { x: event.clientX, y: event.clientY });
      const after = middle();
      const factor = before.apart && after.apart ? after.apart / before.apart : 1;
      const to = Math.min(Math.max(scale * factor, fit()), Math.max(NEAREST, fit()));
      move(after.x - (before.x - left) / scale * to, after.y - (before.y - top) / scale * to, to);
      return undefined;
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => {
        const box = frame.getBoundingClientRect();
        if (kind === "pointerup") read(event.clientX - box.left, event.clientY - box.top);
        held.delete(event.pointerId);
      });
    }
    canvas.addEventListener("pointerleave", () => { if (!held.size) $("readout").textContent = ""; });
    let hinting = 0;
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== frame) { // the page scrolls on
        $("hint").hidden = false;
        clearTimeout(hinting);
        hinting = setTimeout(() => { $("hint").hidden = true; }, 1500);
        return;
      }
      event.preventDefault();
      const box = frame.getBoundingClientRect(), lines = event.deltaMode === 1 ? 30 : 1;
      zoom(2 ** (-event.deltaY * lines / 240), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    canvas.addEventListener("dblclick", (event) => {
      const box = frame.getBoundingClientRect();
      zoom(2, event.clientX - box.left, event.clientY - box.top);
    });

    // ---- keyboard
    const steps = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    frame.addEventListener("keydown", (event) => {
      if (event.target !== frame || event.ctrlKey || event.altKey || event.metaKey) return;
      if (event.key in steps) {
        const [across, down] = steps[event.key], far = Math.min(frame.clientWidth, frame.clientHeight) / 8;
        move(left + across * far, top + down * far, scale);
      } else if (event.key === "+" || event.key === "=") zoom(1.5);
      else if (event.key === "-") zoom(1 / 1.5);
      else if (event.key === "0" || event.key === "Home") whole();
      else return;
      event.preventDefault();
      $("cross").hidden = false;
      const centre = [frame.clientWidth / 2, frame.clientHeight / 2];
      read(...centre);
      say(`In the middle: ${told(...centre) || "beside the map"}`);
    });
    frame.addEventListener("blur", () => { $("cross").hidden = true; });
    $("zoom-in").addEventListener("click", () => zoom(1.5));
    $("zoom-out").addEventListener("click", () => zoom(1 / 1.5));
    $("zoom-fit").addEventListener("click", whole);

    // ---- legend, opacity, confidence and unfamiliarity
    const boxes = [...document.querySelectorAll("#legend input")];
    const total = boxes.length;
    const count = () => `${total - hidden.size} of ${total} classes shown.`;
    const toggle = (box) => {
      const code = Number(box.dataset.code);
      if (box.checked) hidden.delete(code); else hidden.add(code);
    };
    for (const box of boxes) {
      box.disabled = false;
      box.checked = true; // a browser may remember what it was before the page was loaded again
      box.addEventListener("change", () => {
        toggle(box);
        paint();
        say(`${facts.classes[box.dataset.code].name} ${box.checked ? "shown" : "hidden"}. ${count()}`);
      });
    }
    for (const [id, checked] of [["show-all", true], ["show-none", false]]) {
      $(id).addEventListener("click", () => {
        for (const box of boxes) { box.checked = checked; toggle(box); }
        paint();
        say(count());
      });
    }
    $("opacity").value = String(Math.round(100 * opacity));
    $("opacity").addEventListener("input", () => {
      opacity = Number($("opacity").value) / 100;
      $("opacity-text").textContent = `${$("opacity").value} %`;
      draw();
    });
    for (const name of Object.keys(layers)) {
      $(name).checked = false;
      $(name).addEventListener("change", () => {
        over = $(name).checked ? layers[name] : null;
        for (const other of Object.keys(layers)) {
          $(other).checked = over === layers[other];
          $(`${other}-ramp`).hidden = over !== layers[other];
        }
        paint();
        say(`The map shows the ${over ? name : "classes"}.`);
      });
    }

    // ---- the plain pictures make room
    frame.style.aspectRatio = `${facts.across} / ${facts.down}`;
    $("stack").hidden = true;
    for (const part of document.querySelectorAll(".scripted")) part.hidden = false;
    frame.tabIndex = 0;
    scale = fit();
    whole();
    paint();
    new ResizeObserver(() => { if (fitting) whole(); else move(left, top, scale); }).observe(frame);
    frame.dataset.ready = "true";
  };

  if (frame) start().catch((error) => { frame.dataset.ready = "plain"; frame.title = `plain picture: ${error.message}`; });

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const part of opened) part.open = true;
  });
  addEventListener("afterprint", () => { for (const part of opened) part.open = false; });
})();
