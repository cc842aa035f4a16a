// The package as npm would publish it, installed into copies of the examples, built, and served.

import { execFile, spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { cp, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const PACKAGE = fileURLToPath(new URL('../../wasm', import.meta.url));
/** Written by tools into the folder of an example; a copy starts without them. */
const BUILT = ['node_modules', 'dist', 'out', '.next', 'model', 'package-lock.json'];
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.wasm': 'application/wasm', '.json': 'application/json' };

/** Why an example cannot be installed here. */
export class Unreachable extends Error {}

/** Runs a program; what it printed is in the error when it fails. */
export async function run(program, argument, options = {}) {
  try {
    return await promisify(execFile)(program, argument, { maxBuffer: 1 << 26, ...options });
  } catch (error) {
    throw new Error(`${program} ${argument.join(' ')}: exit ${error.code}\n${error.stdout}\n${error.stderr}`, { cause: error });
  }
}

/** A folder with the tarball where the examples expect it: two levels above each. */
export async function packed() {
  const root = await mkdtemp(join(tmpdir(), 'tributary-package-'));
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', root], { cwd: PACKAGE });
  // An array in older versions of npm, an object by name in newer ones.
  const [{ filename, files, size }] = Object.values(JSON.parse(stdout));
  const installed = new Map();
  return {
    tarball: join(root, filename),
    files: files.map(({ path }) => path),
    size,
    /** Copies an example and installs what its package.json names; returns its folder. */
    example(name) {
      if (!installed.has(name)) installed.set(name, install(name, join(root, 'examples', name)));
      return installed.get(name);
    },
    remove: () => rm(root, { recursive: true, force: true }),
  };
}

async function install(name, folder) {
  await cp(join(PACKAGE, 'examples', name), folder, {
    recursive: true,
    filter: (path) => !BUILT.includes(path.split('/').at(-1)),
  });
  try {
    await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', '--no-package-lock'], { cwd: folder });
  } catch (error) {
    if (/ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENOTCACHED/.test(error.message)) {
      throw new Unreachable(`npm has no network, and what the example ${name} needs is not in its cache`);
    }
    throw error;
  }
  return folder;
}

/**
 * Serves a folder to every origin. `pages` by address come before files.
 * @returns {Promise<{ origin: string, asked: string[], close(): Promise<void> }>}
 */
export async function serveFolder(folder, pages = {}) {
  const asked = [];
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://host');
    asked.push(pathname);
    const page = pages[pathname];
    if (page !== undefined) return response.writeHead(200, { 'content-type': 'text/html' }).end(page);
    const path = join(folder, decodeURIComponent(pathname.endsWith('/') ? `${pathname}index.html` : pathname));
    const found = await stat(path).catch(() => undefined);
    if (!found?.isFile()) return response.writeHead(404).end();
    response.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream', 'content-length': found.size, 'access-control-allow-origin': '*' });
    createReadStream(path).pipe(response);
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return {
    origin: `http://localhost:${server.address().port}`,
    asked,
    async close() {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}

/** Vite's own server for development, on a folder with Vite installed. */
export async function viteDev(folder) {
  const vite = spawn(process.execPath, [join(folder, 'node_modules/vite/bin/vite.js'), '--host', 'localhost', '--port', '0', '--clearScreen', 'false'], { cwd: folder, env: { ...process.env, NO_COLOR: '1' } });
  let printed = '';
  const origin = await new Promise((resolve, reject) => {
    const read = (chunk) => {
      printed += chunk;
      const address = /http:\/\/localhost:\d+/.exec(printed)?.[0];
      if (address) resolve(address);
    };
    vite.stdout.on('data', read);
    vite.stderr.on('data', read);
    vite.on('exit', (code) => reject(new Error(`vite exited with ${code}\n${printed}`)));
  });
  return {
    origin,
    close: () => new Promise((closed) => {
      vite.on('exit', closed);
      vite.kill();
    }),
  };
}

/** The text of a file of an installed example. */
export const text = (folder, name) => readFile(join(folder, name), 'utf8');
