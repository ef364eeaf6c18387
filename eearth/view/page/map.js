// A slippy map in Web Mercator: where it looks, what is drawn, and how it is moved. Places are shares of the square
// world, x from 180° west and y from the north; x goes on beyond 1 across the antimeridian.
import { SIDE } from "./tiles.js";

const EQUATOR = 2 * Math.PI * 6378137; // metres
const COARSER = 6; // zooms that a tile is looked for while it is not there
const STILL = 5; // CSS pixels that a pointer may tremble in a click

export const placeOf = (longitude, latitude) => {
  const sine = Math.sin(latitude * Math.PI / 180);
  return { x: longitude / 360 + 0.5, y: 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI) };
};
export const lonlatOf = ({ x, y }) => {
  const longitude = (x - Math.floor(x)) * 360 - 180;
  return { longitude, latitude: Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180 / Math.PI };
};

export class SlippyMap {
  // frame: element; canvas: in it; facts: the server's; drawn: called after each drawing; asked: of a place
  constructor(frame, canvas, facts, drawn, asked) {
    Object.assign(this, { frame, canvas, facts, drawn, asked });
    this.pen = canvas.getContext("2d");
    this.sheet = document.createElement("canvas"); // the layer alone, before it becomes see-through
    const [west, south, east, north] = facts.bounds;
    const upper = placeOf(west, north), lower = placeOf(east, south);
    this.box = { left: upper.x, top: upper.y, right: lower.x, bottom: lower.y };
    this.layer = null; // tiles of values
    this.imagery = null; // tiles of pictures
    this.colours = new Uint32Array(256); // value -> red, green, blue, alpha as they lie in memory
    this.version = 0; // of the colours
    this.opacity = 0.8;
    this.held = new Map(); // pointers
    this.whole();
    this.listen();
    new ResizeObserver(() => { if (this.fitting) this.whole(); else this.draw(); }).observe(frame);
  }

  get width() { return this.frame.clientWidth; }
  get height() { return this.frame.clientHeight; }

  fit() {
    const across = (this.box.right - this.box.left) * SIDE, down = (this.box.bottom - this.box.top) * SIDE;
    return Math.log2(Math.min(Math.max(64, this.width - 24) / across, Math.max(64, this.height - 24) / down));
  }

  // The zooms between which it may be looked at.
  get ends() { return [Math.min(Math.max(0, this.fit() - 1), this.facts.sharpest), this.facts.sharpest + 3]; }

  whole() {
    this.centre = { x: (this.box.left + this.box.right) / 2, y: (this.box.top + this.box.bottom) / 2 };
    const [least, most] = this.ends;
    this.zoom = Math.min(Math.max(this.fit(), least), most);
    this.fitting = true;
    this.draw();
  }

  look(centre, zoom) {
    const [least, most] = this.ends;
    this.zoom = Math.min(Math.max(zoom, least), most);
    this.centre = {
      x: Math.min(Math.max(centre.x, this.box.left), this.box.right),
      y: Math.min(Math.max(centre.y, this.box.top), this.box.bottom),
    };
    this.fitting = false;
    this.draw();
  }

  get world() { return SIDE * 2 ** this.zoom; } // CSS pixels on its side
  placeAt(x, y) { return { x: this.centre.x + (x - this.width / 2) / this.world, y: this.centre.y + (y - this.height / 2) / this.world }; }
  pixelOf(place) { return { x: (place.x - this.centre.x) * this.world + this.width / 2, y: (place.y - this.centre.y) * this.world + this.height / 2 }; }

  zoomBy(levels, x = this.width / 2, y = this.height / 2) {
    const place = this.placeAt(x, y), [least, most] = this.ends;
    const zoom = Math.min(Math.max(this.zoom + levels, least), most), world = SIDE * 2 ** zoom;
    this.look({ x: place.x - (x - this.width / 2) / world, y: place.y - (y - this.height / 2) / world }, zoom);
  }
  moveBy(x, y) { this.look({ x: this.centre.x - x / this.world, y: this.centre.y - y / this.world }, this.zoom); }

  // ---- drawing: once a frame, however often it is asked for
  draw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => { this.drawing = false; this.paint(); });
  }

  recolour(colours) { this.colours = colours; this.version += 1; this.draw(); }

  paint() {
    const dense = window.devicePixelRatio || 1;
    const width = Math.round(this.width * dense), height = Math.round(this.height * dense);
    for (const sheet of [this.canvas, this.sheet]) if (sheet.width !== width || sheet.height !== height) [sheet.width, sheet.height] = [width, height];
    this.pen.clearRect(0, 0, width, height);
    this.pen.globalAlpha = 1;
    if (this.imagery) this.paintTiles(this.pen, this.imagery, dense, true);
    if (this.layer) {
      const pen = this.sheet.getContext("2d");
      pen.clearRect(0, 0, width, height);
      this.paintTiles(pen, this.layer, dense, false);
      this.pen.globalAlpha = this.opacity;
      this.pen.drawImage(this.sheet, 0, 0);
    }
    this.drawn(this);
  }

  // Each square is painted from its own tile or, until that is there, from a coarser one, or from finer ones.
  paintTiles(pen, tiles, dense, smooth) {
    const z = Math.min(Math.max(Math.round(this.zoom + Math.log2(dense)), 0), this.facts.sharpest), count = 2 ** z;
    const corner = this.placeAt(0, 0), end = this.placeAt(this.width, this.height), side = this.world / count * dense;
    const first = { x: Math.floor(Math.max(corner.x, this.box.left) * count), y: Math.floor(Math.max(corner.y, this.box.top) * count) };
    const last = { x: Math.ceil(Math.min(end.x, this.box.right) * count), y: Math.ceil(Math.min(end.y, this.box.bottom) * count) };
    const edge = (place, from) => Math.round((place / count - from) * this.world * dense);
    const wanted = [];
    pen.imageSmoothingEnabled = smooth && side < SIDE * 1.01;
    for (let y = first.y; y < last.y; y++) {
      for (let x = first.x; x < last.x; x++) {
        const column = ((x % count) + count) % count;
        const square = [edge(x, corner.x), edge(y, corner.y), edge(x + 1, corner.x), edge(y + 1, corner.y)];
        const source = this.sourceOf(tiles, z, column, y);
        if (source) this.put(pen, source.tile, source, square); else this.paintFiner(pen, tiles, z, column, y, square);
        wanted.push({ key: `${z}/${column}/${y}`, far: Math.hypot((x + 0.5) / count - this.centre.x, (y + 0.5) / count - this.centre.y) });
      }
    }
    tiles.want(wanted.sort((one, other) => one.far - other.far).map(({ key }) => key));
  }

  // A tile, or the nearest coarser one, and the part of it that lies there.
  sourceOf(tiles, z, x, y) {
    for (let up = 0; up <= Math.min(COARSER, z); up++) {
      const tile = tiles.get(`${z - up}/${x >> up}/${y >> up}`), side = SIDE / 2 ** up;
      if (tile) return { tile, side, left: (x % 2 ** up) * side, top: (y % 2 ** up) * side };
    }
    return null;
  }

  put(pen, tile, part, [left, top, right, bottom]) {
    pen.drawImage(this.imageOf(tile), part.left, part.top, part.side, part.side, left, top, right - left, bottom - top);
  }

  paintFiner(pen, tiles, z, x, y, [left, top, right, bottom]) {
    const columns = [left, Math.round((left + right) / 2), right], rows = [top, Math.round((top + bottom) / 2), bottom];
    for (const [across, down] of [[0, 0], [1, 0], [0, 1], [1, 1]]) {
      const tile = tiles.get(`${z + 1}/${2 * x + across}/${2 * y + down}`);
      if (tile) this.put(pen, tile, { left: 0, top: 0, side: SIDE }, [columns[across], rows[down], columns[across + 1], rows[down + 1]]);
    }
  }

  imageOf(tile) {
    if (tile.picture) return tile.picture;
    if (tile.painted !== this.version) {
      tile.sheet ??= Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
      const pen = tile.sheet.getContext("2d"), pixels = pen.createImageData(SIDE, SIDE), words = new Uint32Array(pixels.data.buffer);
      for (let at = 0; at < words.length; at++) words[at] = this.colours[tile.values[at]];
      pen.putImageData(pixels, 0, 0);
      tile.painted = this.version;
    }
    return tile.sheet;
  }

  // Metres on the ground across a CSS pixel, in the middle.
  get metres() { return EQUATOR / this.world * Math.cos(lonlatOf(this.centre).latitude * Math.PI / 180); }

  // ---- mouse, touch and keyboard
  middle() {
    const points = [...this.held.values()];
    const x = points.reduce((sum, point) => sum + point.x, 0) / points.length, y = points.reduce((sum, point) => sum + point.y, 0) / points.length;
    return { x, y, apart: points.length > 1 ? Math.hypot(points[0].x - points[1].x, points[0].y - points[1].y) : 0 };
  }

  listen() {
    const spot = (event) => { const box = this.frame.getBoundingClientRect(); return { x: event.clientX - box.left, y: event.clientY - box.top }; };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.held.set(event.pointerId, spot(event));
      this.pressed = this.held.size === 1 ? spot(event) : null;
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.held.has(event.pointerId)) return;
      const before = this.middle(), now = spot(event);
      this.held.set(event.pointerId, now);
      const after = this.middle();
      if (this.pressed && Math.hypot(now.x - this.pressed.x, now.y - this.pressed.y) < STILL) return;
      const origin = this.pressed ?? before; // what trembled before counts, too
      this.pressed = null;
      this.moveBy(after.x - origin.x, after.y - origin.y);
      if (before.apart && after.apart) this.zoomBy(Math.log2(after.apart / before.apart), after.x, after.y);
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(kind, (event) => {
        const place = this.pressed && kind === "pointerup" && event.button === 0 ? this.placeAt(this.pressed.x, this.pressed.y) : null;
        this.held.delete(event.pointerId);
        this.pressed = null;
        if (place) this.asked(place);
      });
    }
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const { x, y } = spot(event);
      this.zoomBy(Math.min(Math.max(-event.deltaY * (event.deltaMode === 1 ? 30 : 1) / 240, -2), 2), x, y);
    }, { passive: false });
    this.canvas.addEventListener("dblclick", (event) => { const { x, y } = spot(event); this.zoomBy(1, x, y); });
  }
}
