// Tiles: asked for, read, kept. A tile of values is a palette PNG of one byte a pixel without filters, as eearth writes
// it. The values are read out of the PNG itself, not from a canvas: browsers that guard against fingerprinting answer a
// canvas with changed colours.
export const SIDE = 256;
const AT_ONCE = 6, KEPT = 400, AGAIN_MS = 1000;

const numbersOf = async (bytes) => {
  const view = new DataView(bytes.buffer), parts = [];
  for (let at = 8; at < bytes.length; at += view.getUint32(at) + 12) {
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === "IDAT") parts.push(bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
  }
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const rows = new Uint8Array(await new Response(stream).arrayBuffer());
  const values = new Uint8Array(SIDE * SIDE);
  for (let row = 0; row < SIDE; row++) {
    const start = row * (SIDE + 1) + 1;
    if (rows[start - 1] !== 0) throw new Error("a filtered row");
    values.set(rows.subarray(start, start + SIDE), row * SIDE);
  }
  return values;
};

export const valuesOf = async (response) => ({ values: await numbersOf(new Uint8Array(await response.arrayBuffer())), painted: -1 });
export const pictureOf = async (response) => ({ picture: await createImageBitmap(await response.blob()) });

// Tiles of one layer. `changed` is called when one has come, or when what is being waited for has changed.
export class Tiles {
  constructor(layer, ending, read, changed) {
    Object.assign(this, { layer, ending, read, changed });
    this.kept = new Map(); // key -> tile, the least recently used first; null where it cannot be had
    this.asked = new Map(); // key -> what stops the request
    this.queue = [];
    this.pending = new Set(); // the server is still making them
    this.failed = 0;
  }

  get(key) {
    const found = this.kept.get(key);
    if (found) { this.kept.delete(key); this.kept.set(key, found); }
    return found;
  }

  // Ask for these, in this order, and for no others any more.
  want(keys) {
    const wanted = new Set(keys);
    for (const [key, stop] of this.asked) if (!wanted.has(key)) { stop.abort(); this.asked.delete(key); }
    for (const key of this.pending) if (!wanted.has(key)) this.pending.delete(key);
    this.queue = keys.filter((key) => !this.kept.has(key) && !this.asked.has(key) && !this.pending.has(key));
    this.pump();
  }

  get idle() { return !this.queue.length && !this.asked.size && !this.pending.size; }

  pump() {
    while (this.queue.length && this.asked.size < AT_ONCE) this.ask(this.queue.shift());
  }

  async ask(key) {
    const stop = new AbortController();
    this.asked.set(key, stop);
    try {
      const response = await fetch(`tiles/${this.layer}/${key}.${this.ending}`, { signal: stop.signal });
      if (response.status === 202) {
        this.pending.add(key);
        setTimeout(() => { if (this.pending.delete(key)) this.changed(); }, AGAIN_MS);
      } else {
        if (!response.ok) throw new Error(await response.text());
        this.keep(key, await this.read(response));
      }
    } catch (error) {
      if (stop.signal.aborted) return;
      this.failed += 1;
      this.keep(key, null);
    }
    if (this.asked.get(key) === stop) this.asked.delete(key);
    this.pump();
    this.changed();
  }

  keep(key, tile) {
    this.kept.set(key, tile);
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
  }
}
