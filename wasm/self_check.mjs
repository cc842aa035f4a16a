// node wasm/self_check.mjs FILE.wasm: runs the exported self-check; exit code 0 when it agrees.
import { readFile } from 'node:fs/promises';

const file = process.argv[2];
if (!file) {
  console.error('usage: node wasm/self_check.mjs FILE.wasm');
  process.exit(2);
}
const { instance } = await WebAssembly.instantiate(await readFile(file), {});
const level = ['scalar', 'simd128', 'another'][instance.exports.tributary_level()];
const result = instance.exports.tributary_self_check();
console.log(`self-check on ${level}: ${['agrees', 'MISMATCH', 'ERROR'][result]}`);
process.exit(result === 0 && level === 'simd128' ? 0 : 1);
