// Pictures become RGBA on white. What can be decoded is checked in the first bytes, and its size
// before a decoder allocates anything.

import { isAbort, messageOf, show, throwIfAborted, TributaryError } from './errors.js';
import { imageSize } from './image_size.js';

/** @import {Picture} from './core.js' */
/** @typedef {Blob | ImageBitmap | Picture | string} PictureSource What can cross to a worker; a string is an absolute address. */

const MAX_PIXELS = 40_000_000;
const MAX_BYTES = 64 << 20;
/** Enough for the sizes in all headers but those of photographs with long metadata, which are read whole then. */
const HEAD_BYTES = 256 << 10;

/** @param {string} message @param {unknown} [cause] */
function imageError(message, cause) {
  return new TributaryError('IMAGE', message, cause === undefined ? {} : { cause });
}

/** @param {PictureSource} source @param {AbortSignal} [signal] @returns {Promise<Picture>} */
export async function decode(source, signal) {
  if (typeof source === 'string') return decodeBlob(await fetchPicture(source, signal), signal);
  if (source instanceof Blob) return decodeBlob(source, signal);
  if ('rgba' in source) {
    checkSize(source.width, source.height);
    if (source.rgba.length !== source.width * source.height * 4) {
      throw imageError(`${source.rgba.length} bytes of pixels for ${source.width} x ${source.height}`);
    }
    return { ...source, rgba: onWhite(source.rgba) };
  }
  return draw(source);
}

/** @param {string} url @param {AbortSignal} [signal] */
async function fetchPicture(url, signal) {
  let response;
  try {
    response = await fetch(url, { signal });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    if (Number(response.headers.get('content-length')) > MAX_BYTES) throw new Error(`more than ${MAX_BYTES} bytes`);
    return await response.blob();
  } catch (error) {
    if (isAbort(error)) throw error;
    throw imageError(`${show(url)}: ${messageOf(error)}`, error);
  }
}

/** @param {Blob} blob @param {AbortSignal} [signal] */
async function decodeBlob(blob, signal) {
  if (blob.size > MAX_BYTES) throw imageError(`a picture of ${blob.size} bytes, the limit is ${MAX_BYTES}`);
  const head = new Uint8Array(await blob.slice(0, HEAD_BYTES).arrayBuffer());
  const size = imageSize(head) ?? (blob.size > HEAD_BYTES ? imageSize(new Uint8Array(await blob.arrayBuffer())) : undefined);
  if (!size) throw imageError('not a PNG, JPEG, WebP, GIF, BMP or AVIF picture, or its header is broken');
  checkSize(size.width, size.height);
  if (typeof createImageBitmap !== 'function') {
    throw new TributaryError('IMAGE', 'there is no decoder of pictures here', { hint: 'outside of browsers, give { width, height, data } of decoded RGBA pixels' });
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: 'from-image' });
  } catch (error) {
    throw imageError(`the picture cannot be decoded: ${messageOf(error)}`, error);
  }
  try {
    throwIfAborted(signal);
    return draw(bitmap);
  } finally {
    bitmap.close();
  }
}

/** @param {number} width @param {number} height */
function checkSize(width, height) {
  if (!(width > 0 && height > 0)) throw imageError(`a picture of ${width} x ${height} pixels`);
  if (width * height > MAX_PIXELS) throw imageError(`a picture of ${width} x ${height} pixels, the limit is ${MAX_PIXELS}`);
}

/** @param {ImageBitmap} bitmap @returns {Picture} */
function draw(bitmap) {
  const { width, height } = bitmap;
  checkSize(width, height);
  const context = canvas(width, height).getContext('2d', { willReadFrequently: true });
  if (!context) throw imageError('this browser has no 2D canvas here');
  const drawing = /** @type {OffscreenCanvasRenderingContext2D} */ (context);
  drawing.fillStyle = '#fff';
  drawing.fillRect(0, 0, width, height);
  drawing.drawImage(bitmap, 0, 0);
  return { width, height, rgba: drawing.getImageData(0, 0, width, height).data };
}

/** @param {number} width @param {number} height */
function canvas(width, height) {
  if (typeof OffscreenCanvas !== 'undefined') return new OffscreenCanvas(width, height);
  const element = document.createElement('canvas');
  element.width = width;
  element.height = height;
  return element;
}

/** Straight alpha over white, as a page shows a picture. @param {Uint8Array | Uint8ClampedArray} rgba */
function onWhite(rgba) {
  const out = new Uint8ClampedArray(rgba.length);
  for (let at = 0; at < rgba.length; at += 4) {
    const alpha = rgba[at + 3] / 255;
    for (let channel = at; channel < at + 3; channel++) out[channel] = rgba[channel] * alpha + 255 * (1 - alpha);
    out[at + 3] = 255;
  }
  return out;
}
