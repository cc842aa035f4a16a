// node wasm/self_check.mjs: the kernels inside WebAssembly against plain loops; exit code 0 when they
// agree and use vectors.
import { readFile } from 'node:fs/promises';
import init, { Bundle, self_check } from './dist/core.js';

await init({ module_or_path: await readFile(new URL('./dist/core_bg.wasm', import.meta.url)) });
const nmse = await self_check();
const demo = new URL('../native/demo/', import.meta.url);
const bundle = new Bundle(await readFile(new URL('bundle.json', demo)));
for (const { name } of bundle.files()) {
  bundle.append(name, await readFile(new URL(name, demo)));
  bundle.finish(name);
}
const engine = await bundle.open('cpu', false);
const { adapter } = engine.info();
console.log(`self-check on ${adapter}: nmse ${nmse.toExponential(1)}`);
process.exit(adapter.startsWith('simd128') ? 0 : 1);
