// Rows of the encoder's space.

import { invalid } from './errors.js';
import { isImageInput, pictureSource } from './picture_input.js';
import { checkItem, readable, textOf } from './requests.js';

/** @import {ImageInput, Item} from './index.js' */

/**
 * One row per input, in order; texts in one pass.
 * @param {ReadonlyArray<string | ImageInput | Item>} inputs
 * @param {('image' | 'text')[]} encodes
 * @param {(method: string, argument: any) => Promise<Float32Array>} run
 * @returns {Promise<{ data: Float32Array, dims: [number, number] }>}
 */
export async function embedAll(inputs, encodes, run) {
  const wanted = inputs.map((input, i) => asTextOrPicture(input, `inputs[${i}]`, encodes));
  const texts = wanted.flatMap(({ text }) => text === undefined ? [] : [text]);
  const rows = texts.length ? await run('embedTexts', texts) : new Float32Array();
  let dims = texts.length ? rows.length / texts.length : 0;
  let next = 0;
  /** @type {Float32Array[]} */
  const out = [];
  for (const { text, picture } of wanted) {
    if (text !== undefined) {
      out.push(rows.subarray(next * dims, ++next * dims));
      continue;
    }
    const row = await run('embedPicture', await pictureSource(/** @type {ImageInput} */ (picture)));
    dims = row.length;
    out.push(row);
  }
  const data = new Float32Array(out.length * dims);
  out.forEach((row, i) => data.set(row, i * dims));
  return { data, dims: [out.length, dims] };
}

/** @param {string | ImageInput | Item} input @param {string} argument @param {('image' | 'text')[]} encodes @returns {{ text?: string, picture?: ImageInput }} */
function asTextOrPicture(input, argument, encodes) {
  const need = (/** @type {'image' | 'text'} */ what) => {
    if (!encodes.includes(what)) throw invalid('embed', argument, input, `what this bundle encodes: ${encodes.join(', ')}`);
  };
  if (typeof input === 'string') {
    need('text');
    return { text: readable('embed', argument, input) };
  }
  if (isImageInput(input)) {
    need('image');
    return { picture: input };
  }
  const item = checkItem('embed', argument, input);
  if (item.image !== undefined && encodes.includes('image')) return { picture: item.image };
  need('text');
  return { text: readable('embed', argument, textOf(item)) };
}

/**
 * Documents by the cosine with the mean of the questions; ties in the order given.
 * @param {Float32Array} rows Of length 1 each: the questions', then the documents'.
 * @param {number} questions @param {number} documents
 * @returns {{ index: number, relevanceScore: number }[]}
 */
export function rank(rows, questions, documents) {
  const dims = rows.length / (questions + documents);
  const mean = new Float64Array(dims || 0);
  for (let row = 0; row < questions; row++) {
    for (let i = 0; i < mean.length; i++) mean[i] += rows[row * dims + i];
  }
  const length = Math.hypot(...mean) || 1;
  const results = Array.from({ length: documents }, (_, index) => {
    const at = (questions + index) * dims;
    let dot = 0;
    for (let i = 0; i < mean.length; i++) dot += mean[i] * rows[at + i];
    return { index, relevanceScore: dot / length };
  });
  return results.sort((a, b) => b.relevanceScore - a.relevanceScore);
}
