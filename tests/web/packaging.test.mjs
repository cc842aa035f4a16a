// The package as it is published: what is in it, what checkers say of it, and that it works in every
// stack of the examples, installed from `npm pack`. All rank the same items as the node example.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { DEMO, skip, web } from './harness.mjs';
import { packed, run, serveFolder, text, Unreachable, viteDev } from './packages.mjs';

/** Of the sizes in the README: small changes need not be written there. */
const README_MAY_DIFFER = 0.03;
const bin = (name) => fileURLToPath(new URL(`node_modules/.bin/${name}`, import.meta.url));
const why = skip || missingTools();

function missingTools() {
  const missing = ['publint', 'attw', 'tsc', 'esbuild', 'size-limit'].filter((name) => !existsSync(bin(name)));
  return missing.length > 0 && `no ${missing.join(', ')}: run \`npm ci\` in tests/web first`;
}

describe('the package as published', { skip: why }, () => {
  const w = web();
  /** The tarball. */
  let tarball;
  /** The node example, installed, and the ids it prints. */
  let node, expected;

  before(async () => {
    tarball = await packed();
    node = await tarball.example('node');
    const { stdout } = await run(process.execPath, ['main.js', DEMO], { cwd: node });
    expected = stdout.trim().split('\n').map((line) => line.split('\t')[1]);
    assert.equal(new Set(expected).size, 5, stdout);
  });
  after(() => tarball?.remove());

  it('holds dist, package.json, the README and the licences, and nothing else', (t) => {
    const strange = tarball.files.filter((path) => !/^(dist\/[\w.]+\.(js|d\.ts|wasm)|package\.json|README\.md|LICENSE\S*)$/.test(path));
    assert.deepEqual(strange, []);
    for (const path of ['README.md', 'LICENSE-MIT', 'LICENSE-APACHE', 'dist/index.js', 'dist/index.d.ts', 'dist/worker.js', 'dist/core_bg.wasm']) assert.ok(tarball.files.includes(path), `no ${path}`);
    t.diagnostic(`${tarball.files.length} files, tarball of ${tarball.size} bytes`);
  });

  it('has nothing to install beside it', async () => {
    const { dependencies, peerDependencies, optionalDependencies, scripts = {} } = JSON.parse(await text(node, 'node_modules/tributary/package.json'));
    assert.deepEqual({ ...dependencies, ...peerDependencies, ...optionalDependencies }, {});
    assert.deepEqual(Object.keys(scripts).filter((name) => /install|prepare/.test(name)), []);
  });

  it('is as small as the README says', async (t) => {
    const dist = join(node, 'node_modules/tributary/dist');
    const sums = { js: [0, 0, 0], wasm: [0, 0, 0] };
    for (const name of await readdir(dist)) {
      if (name.endsWith('.d.ts')) continue;
      const bytes = await readFile(join(dist, name));
      const brotli = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } });
      [bytes, gzipSync(bytes, { level: 9 }), brotli].forEach(({ length }, i) => { sums[name.endsWith('.wasm') ? 'wasm' : 'js'][i] += length; });
    }
    const total = sums.js.map((bytes, i) => bytes + sums.wasm[i]);
    for (const [name, row] of Object.entries({ '': ['raw', 'gzip -9', 'brotli 11'], 'core_bg.wasm': sums.wasm, 'all *.js': sums.js, total })) {
      t.diagnostic(name.padEnd(14) + row.map((column) => String(column).padStart(12)).join(''));
    }
    const readme = await text(node, 'node_modules/tributary/README.md');
    for (const [name, row] of Object.entries({ '`core_bg.wasm`': sums.wasm, 'JavaScript, all modules': sums.js, together: total })) {
      const said = readme.split('\n').find((line) => line.startsWith(`| ${name} |`))?.match(/[\d,]{4,}/g)?.map((number) => Number(number.replaceAll(',', '')));
      assert.ok(said?.length === 3 && said.every((bytes, i) => Math.abs(bytes / row[i] - 1) < README_MAY_DIFFER), `README, ${name}: ${said}; measured ${row}`);
    }
  });

  it('size-limit lets it pass', () => run(bin('size-limit'), [], { cwd: fileURLToPath(new URL('.', import.meta.url)) }));

  it('publint has nothing to say', () => run(bin('publint'), [tarball.tarball, '--strict']));

  it('its types resolve wherever modules do', () =>
    run(bin('attw'), [tarball.tarball, '--profile', 'esm-only', '--exclude-entrypoints', './core_bg.wasm', '--no-color']));

  const LIBRARIES = ['--target', 'es2022', '--lib', 'es2022,dom'];
  for (const [name, words] of Object.entries({
    'a Node project': ['-p', '.'],
    'a project with a bundler': ['-p', '.', '--module', 'esnext', '--moduleResolution', 'bundler'],
    // No `Symbol.asyncDispose` there; the package brings what it needs.
    'a project with the libraries of ES2022': ['--ignoreConfig', 'small.mts', '--noEmit', '--strict', '--types', '', '--module', 'nodenext', '--skipLibCheck', 'false', ...LIBRARIES],
  })) {
    it(`its types are strict in ${name}`, async () => {
      const folder = join(node, 'types');
      await cp(fileURLToPath(new URL('types', import.meta.url)), folder, { recursive: true });
      await run(bin('tsc'), words, { cwd: folder });
    });
  }

  it('importing it on a server does nothing', async () => {
    const script = `
      const globals = Object.getOwnPropertyNames(globalThis).join();
      globalThis.fetch = globalThis.Worker = WebAssembly.instantiate = WebAssembly.compile = () => { throw new Error('work at import'); };
      const names = Object.keys(await import('tributary')).join();
      const more = Object.getOwnPropertyNames(globalThis).filter((name) => name !== 'Worker' && !globals.includes(name));
      await new Promise(setImmediate); // Node closes the files it read
      const kinds = process.getActiveResourcesInfo().filter((kind) => !/^(TTY|Pipe)Wrap$/.test(kind));
      console.log(names, more.length, kinds.length);`;
    // It ends by itself, too: nothing is left running.
    const { stdout, stderr } = await run(process.execPath, ['--input-type=module', '-e', script], { cwd: node, timeout: 60_000 });
    assert.equal(stdout.trim(), 'Recommender,TributaryError,getCapabilities,models 0 0');
    assert.equal(stderr, '');
  });

  it('the node example says what is wrong', async () => {
    await assert.rejects(run(process.execPath, ['main.js', '/nowhere'], { cwd: node }), /No recommendations: MODEL_NOT_FOUND: bundle\.json/);
  });

  describe('its README', () => {
    const blocks = async (language) => [...(await text(node, 'node_modules/tributary/README.md')).matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))].map(([, code]) => code);

    it('has a first example that prints what it says', async () => {
      const [code] = await blocks('ts');
      const [promised] = await blocks('text');
      assert.match(code, /fromPretrained\('\.\/model\/'\)/);
      await writeFile(join(node, 'tour.mjs'), code.replace('./model/', w.server.bundle().url));
      const { stdout } = await run(process.execPath, ['tour.mjs'], { cwd: node });
      const lines = (text) => text.trim().split('\n');
      assert.equal(lines(stdout).length, lines(promised).length, stdout);
      lines(promised).forEach((line, i) => assert.ok(lines(stdout)[i].startsWith(line.replace(/…$/, '')), `${line}\n${stdout}`));
    });

    it('has a page that works', async () => {
      const [html] = await blocks('html');
      assert.match(html, /'\.\/tributary\/.*'\.\/model\/'/s);
      const page = html.replace('./tributary/', './node_modules/tributary/').replace('./model/', w.server.bundle().url);
      await serving(await serveFolder(node, { '/': page }), async ({ origin }) => {
        const context = await w.browser.newContext();
        const tab = await context.newPage();
        await tab.goto(`${origin}/`);
        await tab.waitForFunction(() => document.body?.textContent.includes(','));
        assert.match((await tab.locator('body').textContent()).trim(), /^[\w-]+, [\w-]+, [\w-]+$/);
        await context.close();
      });
    });

    it('has examples that compile', async () => {
      const code = await blocks('ts');
      const imports = code.flatMap((block) => block.match(/^import .*$/gm) ?? []);
      const names = [...new Set(imports.flatMap((line) => /{ (.*) }/.exec(line)[1].split(', ')))];
      const bodies = code.map((block, i) => `export async function example${i}() {\n${block.replace(/^import .*$/gm, '')}}\n`);
      const folder = join(node, 'readme');
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, 'readme.ts'), `import { ${names.join(', ')} } from 'tributary';\ndeclare const recommender: Recommender;\n${bodies.join('\n')}`);
      await cp(fileURLToPath(new URL('types/tsconfig.json', import.meta.url)), join(folder, 'tsconfig.json'));
      await run(bin('tsc'), ['-p', '.'], { cwd: folder });
    });
  });

  /** Opens an example's page until it has answered or failed. */
  const visit = async (address, parameters) => {
    const context = await w.browser.newContext();
    try {
      const page = await context.newPage();
      const problems = [];
      page.on('pageerror', (error) => problems.push(error.message));
      page.on('requestfailed', (request) => problems.push(`${request.url()}: ${request.failure()?.errorText}`));
      await page.goto(`${address}?${new URLSearchParams(parameters)}`);
      await page.waitForFunction(() => /^(Answered|No recommendations)/.test(document.getElementById('status')?.textContent ?? ''), null, { timeout: 240_000 });
      return {
        status: await page.locator('#status').textContent(),
        ids: await page.locator('#items li').evaluateAll((items) => items.map(({ dataset }) => dataset.id)),
        workers: page.workers().map((worker) => worker.url()),
        problems,
      };
    } finally {
      await context.close();
    }
  };

  /** What every page must do, on both backends and where there is no bundle. */
  const works = async (t, address) => {
    const model = w.server.bundle().url;
    for (const device of ['wasm', 'webgpu']) {
      const { status, ids, problems } = await visit(address, { model, device, software: '' });
      assert.deepEqual({ status, ids, problems }, { status: `Answered on ${device}`, ids: expected, problems: [] });
    }
    const nowhere = w.server.bundle({ 'bundle.json': (_, response) => response.writeHead(404).end() });
    const { status } = await visit(address, { model: nowhere.url, device: 'wasm' });
    assert.match(status, /^No recommendations: MODEL_NOT_FOUND: bundle\.json: the server answered 404/);
    t.diagnostic(`ranks ${expected.join(', ')} on wasm and on webgpu`);
  };

  const serving = async (server, use) => {
    try {
      return await use(server);
    } finally {
      await server.close();
    }
  };

  /** A test with an example's folder; it is skipped where npm cannot install. */
  const stack = (title, name, body) => it(title, async (t) => {
    let folder;
    try {
      folder = await tarball.example(name);
    } catch (error) {
      if (error instanceof Unreachable) return t.skip(error.message); // nothing to install from: the reason is printed
      throw error;
    }
    await body(t, folder);
  });

  stack('plain HTML, package and page on one origin', 'plain-html', async (t, folder) => {
    await serving(await serveFolder(folder), ({ origin }) => works(t, `${origin}/index.html`));
  });

  stack('plain HTML, the package on another origin with CORS', 'plain-html', async (t, folder) => {
    await serving(await serveFolder(folder), async (host) => {
      const html = (await text(folder, 'index.html')).replace('./node_modules/', `${host.origin}/node_modules/`);
      assert.match(html, /http:\/\/localhost:\d+\/node_modules\/tributary/);
      await serving(await serveFolder('/nowhere', { '/': html }), async (shop) => {
        await works(t, `${shop.origin}/`);
        const { workers } = await visit(`${shop.origin}/`, { model: w.server.bundle().url, device: 'wasm' });
        assert.deepEqual(workers.map((url) => url.slice(0, 5)), ['blob:']);
        assert.deepEqual([...new Set(shop.asked)].filter((path) => path !== '/favicon.ico'), ['/']);
      });
    });
  });

  stack('Vite, built', 'vite', async (t, folder) => {
    await run('npm', ['run', 'build'], { cwd: folder });
    await serving(await serveFolder(join(folder, 'dist')), ({ origin }) => works(t, `${origin}/`));
  });

  stack('Vite, its server for development', 'vite', async (t, folder) => {
    await serving(await viteDev(folder), ({ origin }) => works(t, `${origin}/`));
  });

  stack('webpack, built', 'webpack', async (t, folder) => {
    await run('npm', ['run', 'build'], { cwd: folder });
    await serving(await serveFolder(folder), ({ origin }) => works(t, `${origin}/`));
  });

  stack('esbuild, with the worker as an entry and the WebAssembly copied', 'webpack', async (t, folder) => {
    const out = join(folder, 'out');
    await run(bin('esbuild'), ['src/main.js', 'worker=tributary/worker', '--bundle', '--format=esm', `--outdir=${out}`, '--entry-names=[name]'], { cwd: folder });
    await cp(join(folder, 'node_modules/tributary/dist/core_bg.wasm'), join(out, 'core_bg.wasm'));
    const html = (await text(folder, 'index.html')).replace('<script src="./dist/main.js">', '<script type="module" src="./main.js">');
    await serving(await serveFolder(out, { '/': html }), ({ origin }) => works(t, `${origin}/`));
  });

  stack('Next.js, a static export', 'next', async (t, folder) => {
    await run('npm', ['run', 'build'], { cwd: folder, env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1' } });
    await serving(await serveFolder(join(folder, 'out')), ({ origin }) => works(t, `${origin}/`));
  });
});
