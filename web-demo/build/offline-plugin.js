// A Vite plugin: writes dist/service-worker.js with the list of everything that was built, and sets
// the content security policy of the built page.

import { createHash } from 'node:crypto';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const TEMPLATE = fileURLToPath(new URL('./service-worker.js', import.meta.url));

const POLICY = [
  "default-src 'self'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self'",
  "object-src 'none'",
  "base-uri 'self'",
  "form-action 'none'",
].join('; ');

async function files(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const names = entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)).split(path.sep).join('/'));
  return names.sort();
}

async function hash(folder, names) {
  const sum = createHash('sha256');
  for (const name of names) sum.update(name).update(await readFile(path.join(folder, name)));
  return sum.digest('hex').slice(0, 16);
}

export function offline() {
  let out = '';
  return {
    name: 'offline',
    apply: 'build',
    configResolved: (config) => void (out = path.resolve(config.root, config.build.outDir)),
    transformIndexHtml: () => [
      { tag: 'meta', attrs: { 'http-equiv': 'Content-Security-Policy', content: POLICY }, injectTo: 'head-prepend' },
    ],
    async closeBundle() {
      const all = (await files(out)).filter((name) => name !== 'service-worker.js');
      const isData = (name) => name.startsWith('model/') || name.startsWith('images/');
      const [shell, data] = [all.filter((name) => !isData(name)), all.filter(isData)];
      const url = (name) => (name === 'index.html' ? './' : `./${name}`);
      const head = {
        SHELL: shell.map(url),
        DATA: data.map(url),
        SHELL_HASH: await hash(out, shell),
        DATA_HASH: await hash(out, data),
      };
      const lines = Object.entries(head).map(([name, value]) => `const ${name} = ${JSON.stringify(value)};`);
      const text = await readFile(TEMPLATE, 'utf8');
      await writeFile(path.join(out, 'service-worker.js'), `${lines.join('\n')}\n${text}`);
    },
  };
}
