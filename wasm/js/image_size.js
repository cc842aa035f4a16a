// Width and height from the first bytes of a picture. Formats: the specifications' own names.

/** @typedef {{ width: number, height: number }} Size */

/** @param {Uint8Array} bytes @returns {Size | undefined} `undefined` for what is not known or not whole. */
export function imageSize(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (ascii(bytes, 1, 'PNG') && ascii(bytes, 12, 'IHDR')) return { width: view.getUint32(16), height: view.getUint32(20) };
    if (ascii(bytes, 0, 'GIF8')) return { width: view.getUint16(6, true), height: view.getUint16(8, true) };
    if (ascii(bytes, 0, 'RIFF') && ascii(bytes, 8, 'WEBP')) return webp(bytes, view);
    if (ascii(bytes, 4, 'ftyp')) return avif(bytes, view);
    if (view.getUint16(0) === 0xffd8) return jpeg(view);
    if (ascii(bytes, 0, 'BM')) return bmp(view);
  } catch (error) {
    // A header that ends early.
    if (!(error instanceof RangeError)) throw error;
  }
  return undefined;
}

/** @param {Uint8Array} bytes @param {number} at @param {string} text */
function ascii(bytes, at, text) {
  return bytes.length >= at + text.length && [...text].every((char, i) => bytes[at + i] === char.charCodeAt(0));
}

/** @param {Uint8Array} bytes @param {DataView} view @returns {Size | undefined} */
function webp(bytes, view) {
  if (ascii(bytes, 12, 'VP8 ')) return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
  if (ascii(bytes, 12, 'VP8L')) {
    const bits = view.getUint32(21, true);
    return { width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 };
  }
  const uint24 = (/** @type {number} */ at) => view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
  return ascii(bytes, 12, 'VP8X') ? { width: uint24(24) + 1, height: uint24(27) + 1 } : undefined;
}

/** The largest `ispe` (image spatial extents) box: thumbnails and tiles have their own. @param {Uint8Array} bytes @param {DataView} view @returns {Size | undefined} */
function avif(bytes, view) {
  const end = view.getUint32(0);
  let known = false;
  for (let at = 8; at + 4 <= end && at < 256; at += 4) known ||= ascii(bytes, at, 'avif') || ascii(bytes, at, 'avis');
  /** @type {Size | undefined} */
  let largest;
  for (let at = end; known && at + 16 <= bytes.length; at++) {
    if (!ascii(bytes, at, 'ispe')) continue;
    const size = { width: view.getUint32(at + 8), height: view.getUint32(at + 12) };
    if (!largest || size.width * size.height > largest.width * largest.height) largest = size;
  }
  return largest;
}

/** Segment by segment to the start of frame. @param {DataView} view @returns {Size | undefined} */
function jpeg(view) {
  for (let at = 2; ;) {
    if (view.getUint8(at) !== 0xff) return undefined;
    const marker = view.getUint8(at + 1);
    // Fill bytes, and markers without a length.
    if (marker === 0xff || marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) {
      at += marker === 0xff ? 1 : 2;
      continue;
    }
    // SOF0..SOF15 without DHT, JPG and DAC.
    if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      return { width: view.getUint16(at + 7), height: view.getUint16(at + 5) };
    }
    if (marker === 0xda || marker === 0xd9) return undefined;
    at += 2 + view.getUint16(at + 2);
  }
}

/** @param {DataView} view @returns {Size} */
function bmp(view) {
  if (view.getUint32(14, true) === 12) return { width: view.getUint16(18, true), height: view.getUint16(20, true) };
  return { width: Math.abs(view.getInt32(18, true)), height: Math.abs(view.getInt32(22, true)) };
}
