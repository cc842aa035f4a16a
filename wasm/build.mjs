// node build.mjs FILE.wasm: assembles dist/ from the compiled crate, the sources in js/ and the glue
// of wasm-bindgen, and prints what a page will download.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

import { transformSync } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, 'dist');
const wasm = process.argv[2] ?? join(here, '../target/wasm/wasm32-unknown-unknown/web/tributary_wasm.wasm');

/** What rustc may have used beyond the first version of WebAssembly; wasm-opt refuses what it is not told of. */
const FEATURES = ['--enable-simd', '--enable-bulk-memory', '--enable-sign-ext', '--enable-mutable-globals',
  '--enable-nontrapping-float-to-int', '--enable-multivalue', '--enable-reference-types', '--enable-extended-const'];

/** Types of the sources alone: wasm-bindgen writes core.d.ts itself, and its interface is internal. */
const NOT_SHIPPED = ['core.d.ts', 'tsconfig.json'];

const LICENCES = ['LICENSE-MIT', 'LICENSE-APACHE'];

function bindgen(out) {
  const program = process.env.WASM_BINDGEN ?? 'wasm-bindgen';
  try {
    execFileSync(program, [wasm, '--target', 'web', '--out-name', 'core', '--no-typescript', '--out-dir', out], { stdio: 'inherit' });
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
    console.error(`${program} was not found. cargo install wasm-bindgen-cli (the version in Cargo.lock), or set WASM_BINDGEN.`);
    process.exit(1);
  }
}

function optimise(from, to) {
  const binaryen = dirname(createRequire(import.meta.url).resolve('binaryen/package.json'));
  execFileSync(process.execPath, [join(binaryen, 'bin/wasm-opt'), '-O3', ...FEATURES, '--strip-debug', '--strip-producers', from, '-o', to],
    { stdio: 'inherit' });
}

function sizes() {
  const rows = readdirSync(dist).sort().map((name) => {
    const bytes = readFileSync(join(dist, name));
    const brotli = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } });
    return [name, bytes.length, gzipSync(bytes, { level: 9 }).length, brotli.length];
  });
  const total = ['total', 1, 2, 3].map((column) => typeof column === 'string' ? column : rows.reduce((sum, row) => sum + row[column], 0));
  for (const [name, ...columns] of [['file', 'raw', 'gzip', 'brotli'], ...rows, total]) {
    console.log(String(name).padEnd(22), ...columns.map((column) => String(column).padStart(10)));
  }
}

/** White space and comments go; names stay, so that a stack says where. The comments are in the repository. */
function compact(file) {
  const options = { format: 'esm', target: 'es2022', minifyWhitespace: true, minifySyntax: true, legalComments: 'none' };
  writeFileSync(file, transformSync(readFileSync(file, 'utf8'), options).code);
}

const scratch = mkdtempSync(join(tmpdir(), 'tributary-'));
try {
  bindgen(scratch);
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist);
  for (const name of readdirSync(join(here, 'js'))) {
    if (!NOT_SHIPPED.includes(name)) cpSync(join(here, 'js', name), join(dist, name));
  }
  cpSync(join(scratch, 'core.js'), join(dist, 'core.js'));
  for (const name of readdirSync(dist)) {
    if (name.endsWith('.js')) compact(join(dist, name));
  }
  // npm adds a LICENSE by itself, but not these two.
  for (const name of LICENCES) cpSync(join(here, '..', name), join(here, name));
  optimise(join(scratch, 'core_bg.wasm'), join(dist, 'core_bg.wasm'));
  sizes();
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
