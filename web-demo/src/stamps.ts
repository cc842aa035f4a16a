// Simple products on a grid of 128 by 128, in the shop's own colours and patterns: a start for the
// visitor's drawing, and the way to a picture without a pointer.

export interface Colour {
  name: string;
  main: string;
  accent: string;
  trim: string;
}

/** Palettes of the synthetic shop (core/src/shop/look.rs), which the picture encoder has learned. */
export const COLOURS: readonly Colour[] = [
  { name: 'scarlet red', main: '#e53a2e', accent: '#fff4e8', trim: '#8e1d1a' },
  { name: 'brick red', main: '#b2432f', accent: '#f0cfa8', trim: '#5f271e' },
  { name: 'tangerine orange', main: '#f79326', accent: '#fff3da', trim: '#9a4a0f' },
  { name: 'honey yellow', main: '#efbe2e', accent: '#fff7d9', trim: '#8b6210' },
  { name: 'fern green', main: '#3f924f', accent: '#e2f3cc', trim: '#1e4d2b' },
  { name: 'olive green', main: '#7d8734', accent: '#f1ecc4', trim: '#43491c' },
  { name: 'sky blue', main: '#6fb7ea', accent: '#f5fbff', trim: '#2a6799' },
  { name: 'cobalt blue', main: '#2e63cc', accent: '#e6eeff', trim: '#173578' },
  { name: 'violet purple', main: '#7b46c9', accent: '#f0e3ff', trim: '#412075' },
  { name: 'rose pink', main: '#ea7098', accent: '#ffecf2', trim: '#9a2f57' },
  { name: 'slate grey', main: '#5e6975', accent: '#e2e8ed', trim: '#2e363e' },
  { name: 'charcoal grey', main: '#3a3e45', accent: '#d2d7dd', trim: '#1c1f23' },
];

export const PATTERNS = ['plain', 'striped', 'dotted', 'checked', 'zigzag', 'wavy'] as const;
export type Pattern = (typeof PATTERNS)[number];

export interface Stamp {
  name: string;
  category: string;
  body: string;
  trim?: string; // filled
  line?: string; // stroked
}

export const STAMPS: readonly Stamp[] = [
  { name: 'T-Shirt', category: 'Tops', body: 'M46 24L24 36L12 58L30 66L36 56V106H92V56L98 66L116 58L104 36L82 24Q64 40 46 24Z', trim: 'M46 24Q64 46 82 24L77 22Q64 36 51 22Z' },
  { name: 'Beanie', category: 'Hats', body: 'M28 86Q26 34 64 32Q102 34 100 86Z', trim: 'M24 82H104V102H24ZM64 16a9 9 0 1 0 .1 0Z' },
  { name: 'Tote Bag', category: 'Bags', body: 'M28 50H100L108 108H20Z', line: 'M46 50V38Q46 22 64 22Q82 22 82 38V50' },
  { name: 'Rain Boot', category: 'Shoes', body: 'M42 20H78V70Q102 74 106 98H42Z', trim: 'M40 98H108V108H40ZM40 18H80V27H40Z' },
  { name: 'Mug', category: 'Tea and Coffee', body: 'M26 34H84V92Q84 104 72 104H38Q26 104 26 92Z', line: 'M84 48H94Q108 48 108 64Q108 82 84 84' },
  { name: 'Cushion', category: 'Cushions', body: 'M18 24Q64 33 110 24Q102 64 110 106Q64 97 18 106Q26 64 18 24Z', trim: 'M64 60a5 5 0 1 0 .1 0Z' },
  { name: 'Water Bottle', category: 'Bottles', body: 'M44 44Q44 34 54 34H74Q84 34 84 44V102Q84 112 74 112H54Q44 112 44 102Z', trim: 'M52 16H76V34H52Z' },
  { name: 'Umbrella', category: 'Umbrellas', body: 'M10 66Q16 20 64 18Q112 20 118 66Q104 56 91 66Q78 56 64 66Q51 56 37 66Q24 56 10 66Z', line: 'M64 12V100Q64 112 54 110Q46 108 47 100' },
];

/** The paper under the shop's pictures. */
export const PAPER = '#f6f0ea';

/** Draws `stamp` on a context whose unit is the grid's. */
export function drawStamp(g: CanvasRenderingContext2D, stamp: Stamp, colour: Colour, pattern: Pattern): void {
  g.save();
  g.lineCap = 'round';
  g.lineJoin = 'round';
  g.filter = 'blur(3px)';
  g.fillStyle = 'rgb(0 0 0 / 28%)';
  g.beginPath();
  g.ellipse(64, 112, 38, 4, 0, 0, 2 * Math.PI);
  g.fill();
  g.filter = 'none';
  if (stamp.line !== undefined) {
    g.strokeStyle = colour.trim;
    g.lineWidth = 6;
    g.stroke(new Path2D(stamp.line));
  }
  const body = new Path2D(stamp.body);
  g.fillStyle = colour.main;
  g.fill(body);
  g.save();
  g.clip(body);
  drawPattern(g, pattern, colour.accent);
  // Light from the left, as on the shop's pictures.
  const light = g.createLinearGradient(14, 0, 114, 0);
  light.addColorStop(0, 'rgb(255 255 255 / 16%)');
  light.addColorStop(0.55, 'rgb(255 255 255 / 0%)');
  light.addColorStop(1, 'rgb(0 0 0 / 16%)');
  g.fillStyle = light;
  g.fillRect(0, 0, 128, 128);
  g.restore();
  g.strokeStyle = colour.trim;
  g.lineWidth = 1.6;
  g.stroke(body);
  if (stamp.trim !== undefined) {
    g.fillStyle = colour.trim;
    g.fill(new Path2D(stamp.trim));
  }
  g.restore();
}

function drawPattern(g: CanvasRenderingContext2D, pattern: Pattern, accent: string): void {
  g.fillStyle = g.strokeStyle = accent;
  const line = (y: number, points: (x: number) => number): void => {
    g.beginPath();
    for (let x = 0; x <= 128; x += 2) g.lineTo(x, y + points(x));
    g.stroke();
  };
  switch (pattern) {
    case 'plain':
      return;
    case 'striped':
      for (let y = 4; y < 128; y += 15) g.fillRect(0, y, 128, 6.5);
      return;
    case 'dotted':
      for (let row = 0; row < 10; row++) {
        for (let x = row % 2 === 0 ? 6 : 13; x < 128; x += 14) {
          g.beginPath();
          g.arc(x, 6 + 13 * row, 3.2, 0, 2 * Math.PI);
          g.fill();
        }
      }
      return;
    case 'checked':
      g.globalAlpha = 0.55;
      for (let at = 3; at < 128; at += 16) {
        g.fillRect(at, 0, 7, 128);
        g.fillRect(0, at, 128, 7);
      }
      return;
    case 'zigzag':
      g.lineWidth = 4;
      for (let y = 6; y < 136; y += 16) line(y, (x) => Math.abs((x % 16) - 8) - 4);
      return;
    case 'wavy':
      g.lineWidth = 3.6;
      for (let y = 6; y < 136; y += 15) line(y, (x) => 3.6 * Math.sin((x / 22) * 2 * Math.PI));
  }
}
