// Screenshots small enough for a repository.

import { crc32, deflateSync, inflateSync } from 'node:zlib';

const SIGNATURE = 8; // bytes
const STEP = 2;

/** The pixels of a PNG file of 8-bit RGB or RGBA, row by row. */
function decode(png) {
  const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)];
  const channels = { 2: 3, 6: 4 }[png[25]];
  if (png[24] !== 8 || channels === undefined || png[28] !== 0) throw new Error('not an 8-bit RGB picture');
  const data = [];
  for (let at = SIGNATURE; at < png.length; at += 12 + png.readUInt32BE(at)) {
    if (png.toString('latin1', at + 4, at + 8) === 'IDAT') data.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
  }
  const raw = inflateSync(Buffer.concat(data));
  const stride = width * channels;
  const rows = Buffer.alloc(stride * height);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)];
    for (let x = 0; x < stride; x++) {
      const at = y * stride + x;
      const left = x < channels ? 0 : rows[at - channels];
      const up = y === 0 ? 0 : rows[at - stride];
      const corner = x < channels || y === 0 ? 0 : rows[at - stride - channels];
      rows[at] = raw[y * (stride + 1) + 1 + x] + [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
    }
  }
  return { width, height, channels, rows };
}

function paeth(left, up, corner) {
  const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

function chunk(name, body) {
  const out = Buffer.alloc(12 + body.length);
  out.writeUInt32BE(body.length, 0);
  out.write(name, 4, 'latin1');
  body.copy(out, 8);
  out.writeUInt32BE(crc32(out.subarray(4, 8 + body.length)), 8 + body.length);
  return out;
}

/** The same picture with colours rounded to multiples of `STEP`, which nobody sees and deflate likes. */
export function coarse(png) {
  const { width, height, channels, rows } = decode(png);
  const stride = 3 * width;
  const lines = Buffer.alloc((stride + 1) * height); // each begins with filter 0, none
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < stride; x++) {
      const value = rows[(y * width + Math.floor(x / 3)) * channels + (x % 3)];
      lines[y * (stride + 1) + 1 + x] = Math.min(255, STEP * Math.round(value / STEP));
    }
  }
  const header = Buffer.from(png.subarray(16, 29));
  header[9] = 2; // RGB
  return Buffer.concat([
    png.subarray(0, SIGNATURE),
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(lines, { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}
