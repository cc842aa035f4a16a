// The demo bundle with its matrices as f32: the same values, but products that do not round what goes
// into them to 8 bits.

import { createHash } from 'node:crypto';
import { content, files, manifest } from './harness.mjs';

/** q8 stores rows of int8 and one f16 scale per so many columns. */
const BLOCK = 32;

/** @param {number} bits of an f16; weights have neither infinities nor NaN */
function fromF16(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** A safetensors file of q8 matrices in, one of f32 matrices out. */
function unquantize(bytes) {
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const { __metadata__: { format }, ...tensors } = JSON.parse(bytes.subarray(8, 8 + headerBytes));
  const data = (name) => bytes.subarray(8 + headerBytes).subarray(...tensors[name].data_offsets);
  const header = { __metadata__: { format } };
  const parts = [];
  let at = 0;
  for (const [name, { dtype, shape }] of Object.entries(tensors)) {
    const scales = `${name}.scales`;
    if (name.endsWith('.scales') && tensors[name.slice(0, -'.scales'.length)]?.dtype === 'I8') continue;
    let part = data(name);
    if (dtype === 'I8' && tensors[scales]) {
      const [rows, cols] = shape;
      const [quants, factors] = [data(name), data(scales)];
      const blocks = Math.ceil(cols / BLOCK);
      part = Buffer.alloc(4 * rows * cols);
      for (let i = 0; i < rows * cols; i++) {
        const block = Math.floor(i / cols) * blocks + Math.floor((i % cols) / BLOCK);
        part.writeFloatLE(quants.readInt8(i) * fromF16(factors.readUInt16LE(2 * block)), 4 * i);
      }
    }
    header[name] = { dtype: dtype === 'I8' ? 'F32' : dtype, shape, data_offsets: [at, at + part.length] };
    at += part.length;
    parts.push(part);
  }
  const json = Buffer.from(JSON.stringify(header));
  const head = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
  head.writeBigUInt64LE(BigInt(head.length - 8));
  json.copy(head, 8);
  return Buffer.concat([head, ...parts]);
}

/** The files that differ from the demo's: weights, and bundle.json with their sizes and hashes. */
export function unquantizedDemo() {
  const changed = new Map(files.filter(({ name }) => /^(model|fusion)\.safetensors$/.test(name)).map(({ name }) => [name, unquantize(content(name))]));
  const components = manifest.components.map((component) => ({
    ...component,
    files: component.files.map((file) => {
      const bytes = changed.get(file.name);
      return bytes ? { ...file, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') } : file;
    }),
  }));
  changed.set('bundle.json', Buffer.from(JSON.stringify({ ...manifest, components })));
  return changed;
}
