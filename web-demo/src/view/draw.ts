// The easel: stamps in colours and patterns, a brush, and pictures from files, the clipboard or a drop.

import { announce, fill, h, icon } from '../dom';
import { COLOURS, PAPER, PATTERNS, STAMPS, drawStamp, type Colour, type Pattern, type Stamp } from '../stamps';

const SIZE = 256; // drawn at twice the resolution that is kept
const STEPS_KEPT = 24;
const LARGEST_FILE = 20e6; // bytes

/** Dispatches `stamp` with the name of what was stamped, and `picture` when a file came. */
export class Easel extends EventTarget {
  readonly element: HTMLElement;
  readonly canvas = h('canvas.easel', { width: SIZE, height: SIZE, role: 'img', tabindex: '-1' });
  /** Nothing is drawn yet. */
  empty = true;
  readonly #g: CanvasRenderingContext2D;
  readonly #steps: ImageData[] = [];
  readonly #complaint = h('p.complaint', { role: 'alert' });
  #colour: Colour = COLOURS[0]!;
  #pattern: Pattern = 'striped';
  #stamp: Stamp | null = null;
  #brush = 12;

  constructor() {
    super();
    const context = this.canvas.getContext('2d', { willReadFrequently: true });
    if (context === null) throw new Error('this browser has no canvas');
    this.#g = context;
    this.#paper();
    this.#listen();
    this.element = h(
      'div.studio-draw',
      {},
      h('div.easel-frame', {}, this.canvas, h('p.easel-hint', {}, 'Draw here, drop a picture, or stamp')),
      this.#tools(),
      this.#complaint,
    );
    this.#describe();
  }

  /** A clean sheet. */
  reset(): void {
    this.#steps.length = 0;
    this.#paper();
    this.#stamp = null;
    this.empty = true;
    this.#describe();
  }

  /** The picture at the size that is kept. */
  finished(size: number): HTMLCanvasElement {
    const small = h('canvas', { width: size, height: size });
    const g = small.getContext('2d');
    if (g !== null) {
      g.imageSmoothingQuality = 'high';
      g.drawImage(this.canvas, 0, 0, size, size);
    }
    return small;
  }

  /** Takes a picture file; says what is wrong with one that it cannot take. */
  async take(file: Blob): Promise<void> {
    this.#complaint.textContent = '';
    try {
      if (file.size > LARGEST_FILE) throw new Error('The file is larger than 20 MB.');
      const bitmap = await createImageBitmap(file);
      this.#remember();
      this.#paper();
      const scale = Math.max(SIZE / bitmap.width, SIZE / bitmap.height);
      const [width, height] = [bitmap.width * scale, bitmap.height * scale];
      this.#g.imageSmoothingQuality = 'high';
      this.#g.drawImage(bitmap, (SIZE - width) / 2, (SIZE - height) / 2, width, height);
      bitmap.close();
      this.#stamp = null;
      this.empty = false;
      this.#describe('your picture, its middle square');
      this.dispatchEvent(new Event('picture'));
    } catch (error) {
      const why = error instanceof Error && error.message.startsWith('The file') ? error.message : 'This is no picture that the browser can read.';
      this.#complaint.textContent = `${why} Try a PNG, JPEG or WebP.`;
    }
  }

  #tools(): HTMLElement {
    const stamps = STAMPS.map((stamp) =>
      h('button.chip', { type: 'button', onclick: () => this.#use(stamp) }, stamp.name),
    );
    const swatches = COLOURS.map((colour, i) => {
      const radio = h('input', { type: 'radio', name: 'colour', value: colour.name, checked: i === 0, 'aria-label': colour.name, title: colour.name });
      radio.addEventListener('change', () => { this.#colour = colour; this.#restamp(); });
      const dot = h('span.swatch');
      dot.style.backgroundColor = colour.main;
      return h('label.swatch-label', {}, radio, dot);
    });
    const patterns = PATTERNS.map((pattern) => {
      const radio = h('input', { type: 'radio', name: 'pattern', value: pattern, checked: pattern === this.#pattern });
      radio.addEventListener('change', () => { this.#pattern = pattern; this.#restamp(); });
      return h('label.segment', {}, radio, h('span', {}, pattern));
    });
    const brush = h('input', { type: 'range', id: 'brush', min: 3, max: 40, value: this.#brush });
    brush.addEventListener('input', () => (this.#brush = brush.valueAsNumber));
    const file = h('input.visually-hidden', { type: 'file', id: 'picture-file', accept: 'image/*' });
    file.addEventListener('change', () => {
      const chosen = file.files?.[0];
      if (chosen !== undefined) void this.take(chosen);
      file.value = '';
    });
    return h(
      'div.tools',
      {},
      h('div.actions', {},
        h('label.button.small.file', { for: 'picture-file' }, icon('picture'), 'Choose a picture'), file,
        h('button.button.small', { type: 'button', onclick: () => this.#undo() }, icon('undo'), 'Undo'),
        h('button.button.small', { type: 'button', onclick: () => { this.#remember(); this.reset(); announce('The sheet is empty.'); } }, 'Clear')),
      h('div', { role: 'group', 'aria-labelledby': 'stamps-label' }, h('p.label', { id: 'stamps-label' }, 'Stamp'), h('div.chips.wrap', {}, ...stamps)),
      h('fieldset', {}, h('legend', {}, 'Colour'), h('div.swatches', {}, ...swatches)),
      h('fieldset', {}, h('legend', {}, 'Pattern'), h('div.segments.wrap', {}, ...patterns)),
      h('label.range', { for: 'brush' }, h('span', {}, 'Brush'), brush),
    );
  }

  #use(stamp: Stamp): void {
    this.#remember();
    this.#stamp = stamp;
    this.#restamp();
    this.dispatchEvent(new CustomEvent('stamp', { detail: stamp }));
  }

  #restamp(): void {
    if (this.#stamp === null) return;
    this.#paper();
    this.#g.save();
    this.#g.scale(SIZE / 128, SIZE / 128);
    drawStamp(this.#g, this.#stamp, this.#colour, this.#pattern);
    this.#g.restore();
    this.empty = false;
    this.#describe(`a ${this.#pattern} ${this.#stamp.name.toLowerCase()} in ${this.#colour.name}`);
  }

  #listen(): void {
    const { canvas } = this;
    let last: [number, number] | null = null;
    const at = (event: PointerEvent): [number, number] => {
      const box = canvas.getBoundingClientRect();
      return [((event.clientX - box.left) * SIZE) / box.width, ((event.clientY - box.top) * SIZE) / box.height];
    };
    const line = (to: [number, number]): void => {
      const [x, y] = last ?? to;
      Object.assign(this.#g, { strokeStyle: this.#colour.main, lineWidth: this.#brush, lineCap: 'round' });
      this.#g.beginPath();
      this.#g.moveTo(x, y);
      this.#g.lineTo(...to);
      this.#g.stroke();
      last = to;
    };
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#remember();
      this.#stamp = null;
      this.empty = false;
      line(at(event));
      this.#describe('your drawing');
    });
    canvas.addEventListener('pointermove', (event) => {
      if (last !== null) for (const part of event.getCoalescedEvents?.() ?? [event]) line(at(part));
    });
    for (const end of ['pointerup', 'pointercancel'] as const) canvas.addEventListener(end, () => (last = null));
  }

  #paper(): void {
    this.#g.fillStyle = PAPER;
    this.#g.fillRect(0, 0, SIZE, SIZE);
  }

  #remember(): void {
    this.#steps.push(this.#g.getImageData(0, 0, SIZE, SIZE));
    if (this.#steps.length > STEPS_KEPT) this.#steps.shift();
  }

  #undo(): void {
    const step = this.#steps.pop();
    if (step === undefined) return announce('There is nothing to undo.');
    this.#g.putImageData(step, 0, 0);
    this.#stamp = null;
    this.empty = this.#steps.length === 0;
    this.#describe(this.empty ? undefined : 'your drawing');
    announce('Undone.');
  }

  #describe(what = 'an empty sheet'): void {
    this.canvas.setAttribute('aria-label', `Picture: ${what}`);
    this.element?.classList.toggle('is-empty', this.empty);
    fill(this.#complaint);
  }
}
