// The page around the map: layers, legend, and what is known of a pixel.
import { SlippyMap, lonlatOf, placeOf } from "./map.js";
import { Tiles, pictureOf, valuesOf } from "./tiles.js";

const $ = (id) => document.getElementById(id);
const made = (kind, attributes = {}, ...inside) => {
  const element = Object.assign(document.createElement(kind), attributes);
  element.append(...inside);
  return element;
};
const swatch = (colour) => {
  const element = made("i", { className: "swatch" });
  element.style.backgroundColor = colour;
  return element;
};
const packed = (colour) => {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0; // little-endian, as all present machines are
};
const degrees = (value, positive, negative) => `${Math.abs(value).toFixed(5)}° ${value < 0 ? negative : positive}`;

const start = (facts) => {
  const frame = $("map"), hidden = new Map(facts.layers.map((layer) => [layer.id, new Set()]));
  const changed = () => map.draw();
  const tiles = new Map(facts.layers.map((layer) => [layer.id, new Tiles(layer.id, "png", valuesOf, changed)]));
  const imagery = facts.imagery ? new Tiles("imagery", "webp", pictureOf, changed) : null;
  let shown = facts.layers[0], marked = null, question = 0;
  const say = (text) => { $("status").textContent = text; };

  const drawn = () => {
    const all = [map.layer, map.imagery].filter(Boolean);
    $("busy").hidden = !(imagery && imagery.pending.size);
    const failed = all.reduce((sum, some) => sum + some.failed, 0);
    $("trouble").hidden = !failed;
    $("trouble").textContent = failed ? "Some of the map cannot be read. The terminal in which eearth view runs says why." : "";
    frame.dataset.state = all.every((some) => some.idle) ? "still" : "loading";
    const room = map.metres * Math.min(160, frame.clientWidth / 3), power = 10 ** Math.floor(Math.log10(room));
    const length = [5, 2, 1].map((factor) => factor * power).find((metres) => metres <= room);
    $("scale-bar").style.width = `${length / map.metres}px`;
    $("scale-text").textContent = length >= 1000 ? `${length / 1000} km` : `${Number(length.toPrecision(1))} m`;
    $("mark").hidden = !marked;
    if (marked) {
      const { x, y } = map.pixelOf(marked);
      [$("mark").style.left, $("mark").style.top] = [`${x}px`, `${y}px`];
    }
  };

  // ---- what is known of a pixel
  const ask = async (place) => {
    const number = ++question, { longitude, latitude } = lonlatOf(place);
    const response = await fetch(`point.json?longitude=${longitude}&latitude=${latitude}`).catch(() => null);
    if (number !== question) return;
    if (!response?.ok) { say("The map did not answer."); return; }
    const found = await response.json();
    marked = place;
    $("pixel-class").replaceChildren(...(found.class?.colour ? [swatch(found.class.colour)] : []), made("bdi", { textContent: found.class?.name ?? "beside the map" }));
    $("pixel-facts").replaceChildren(...found.facts.flatMap(({ title, text }) => [made("dt", { textContent: title }), made("dd", { textContent: text })]));
    $("pixel-place").textContent = `${degrees(latitude, "N", "S")}, ${degrees(longitude, "E", "W")}\n${found.position}`;
    $("pixel").hidden = false;
    say([found.class?.name ?? "beside the map", ...found.facts.map(({ title, text }) => `${title} ${text}`)].join(", "));
    map.draw();
  };
  const forget = () => { question += 1; marked = null; $("pixel").hidden = true; map.draw(); };

  const map = new SlippyMap(frame, $("canvas"), facts, drawn, ask);
  map.imagery = imagery;

  // ---- legend
  const recolour = () => {
    const colours = new Uint32Array(256), off = hidden.get(shown.id);
    if (shown.ramp.length) {
      const ramp = shown.ramp.map(packed);
      for (let value = 0; value < 256; value++) colours[value] = ramp[Math.min(value, ramp.length - 1)];
    }
    for (const { code, colour } of shown.entries) colours[code] = off.has(code) ? 0 : packed(colour);
    colours[shown.nodata] = 0;
    map.recolour(colours);
  };
  const count = () => `${shown.entries.length - hidden.get(shown.id).size} of ${shown.entries.length} shown.`;
  const box = ({ code, name, colour }) => {
    const input = made("input", { type: "checkbox", checked: !hidden.get(shown.id).has(code) });
    input.dataset.code = code;
    input.addEventListener("change", () => {
      if (input.checked) hidden.get(shown.id).delete(code); else hidden.get(shown.id).add(code);
      recolour();
      say(`${name} ${input.checked ? "shown" : "hidden"}. ${count()}`);
    });
    return made("li", {}, made("label", {}, input, swatch(colour), made("bdi", { textContent: name })));
  };
  const show = (layer) => {
    shown = layer;
    map.layer = tiles.get(layer.id);
    $("legend-title").textContent = layer.title;
    $("legend").replaceChildren(...layer.entries.map(box));
    $("both").hidden = layer.entries.length < 2;
    $("ramp-part").hidden = !layer.ramp.length;
    if (layer.ramp.length) {
      $("ramp").style.backgroundImage = `linear-gradient(to right, ${layer.ramp.filter((_, at) => at % 5 === 0 || at === layer.ramp.length - 1).join(", ")})`;
      [$("ramp-low").textContent, $("ramp-high").textContent] = [`0 ${layer.unit}`, `${layer.high} ${layer.unit}`];
      $("ramp").setAttribute("aria-label", `Colours from dark blue for 0 to yellow for ${layer.high} ${layer.unit}`);
    }
    recolour();
  };
  for (const [id, checked] of [["show-all", true], ["show-none", false]]) {
    $(id).addEventListener("click", () => {
      hidden.set(shown.id, new Set(checked ? [] : shown.entries.map(({ code }) => code)));
      for (const input of document.querySelectorAll("#legend input")) input.checked = checked;
      recolour();
      say(count());
    });
  }

  // ---- layers, opacity, imagery
  for (const layer of facts.layers) {
    const input = made("input", { type: "radio", name: "layer", value: layer.id, checked: layer === shown });
    input.addEventListener("change", () => { show(layer); say(`${layer.title} shown.`); });
    $("layers").append(made("label", {}, input, layer.title));
  }
  $("layers").hidden = facts.layers.length < 2;
  $("opacity").value = String(100 * map.opacity); // a browser may remember what it was before the page was loaded again
  $("opacity").addEventListener("input", () => {
    map.opacity = Number($("opacity").value) / 100;
    $("opacity-text").textContent = `${$("opacity").value} %`;
    map.draw();
  });
  $("imagery-option").hidden = !imagery;
  $("imagery").checked = true;
  $("imagery").addEventListener("change", () => { map.imagery = $("imagery").checked ? imagery : null; map.draw(); });

  // ---- buttons and keyboard
  $("zoom-in").addEventListener("click", () => map.zoomBy(0.5));
  $("zoom-out").addEventListener("click", () => map.zoomBy(-0.5));
  $("zoom-fit").addEventListener("click", () => map.whole());
  $("pixel-close").addEventListener("click", () => { forget(); frame.focus(); });
  const steps = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  frame.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return forget();
    if (event.target !== frame || event.ctrlKey || event.altKey || event.metaKey) return undefined;
    const far = Math.min(map.width, map.height) / 8;
    if (event.key in steps) map.moveBy(...steps[event.key].map((part) => part * far));
    else if (event.key === "+" || event.key === "=") map.zoomBy(0.5);
    else if (event.key === "-") map.zoomBy(-0.5);
    else if (event.key === "0" || event.key === "Home") map.whole();
    else if (event.key === "Enter") ask(map.centre);
    else return undefined;
    event.preventDefault();
    $("cross").hidden = false;
    return undefined;
  });
  for (const kind of ["blur", "pointerdown"]) frame.addEventListener(kind, () => { $("cross").hidden = true; });

  // ---- words
  document.title = `${facts.title} · eearth`;
  $("title").textContent = facts.title;
  $("facts").textContent = `${facts.rows.toLocaleString("en")} × ${facts.columns.toLocaleString("en")} pixels of ${Number(facts.metres.toPrecision(4))} m, ${facts.crs}`;
  $("credits").textContent = [
    facts.imagery ? "Below: the median of each pixel’s clear observations." : "The workspace holds no imagery.",
    ...facts.attributions, `eearth ${facts.version}`,
  ].join("\n");
  if (window.matchMedia("(max-width: 46rem)").matches) $("panel").open = false;
  else $("panel").open = true;
  show(shown);
  frame.dataset.ready = "true";
};

fetch("map.json").then((response) => response.json()).then(start).catch((error) => {
  $("trouble").hidden = false;
  $("trouble").textContent = `The map cannot be shown: ${error.message}`;
});
