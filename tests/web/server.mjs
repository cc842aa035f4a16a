// A static server that fails on demand. Each test asks for a bundle of its own address, so nothing of
// another test is in any cache, and says which files misbehave.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm', '.json': 'application/json' };

/** The bundle under test, as it is in the repository. */
export const DEMO = join(root, 'native/demo');
export const DIST = join(root, 'wasm/dist');

export const manifest = JSON.parse(await readFile(join(DEMO, 'bundle.json'), 'utf8'));
export const files = manifest.components.flatMap(({ files }) => files);
/** The largest one: what downloads are made to fail on. */
export const LARGEST = files.reduce((a, b) => (b.bytes > a.bytes ? b : a)).name;
const contents = new Map();
for (const name of ['bundle.json', ...files.map(({ name }) => name)]) contents.set(name, await readFile(join(DEMO, name)));

/** A file of the demo bundle. */
export function content(name) {
  return contents.get(name);
}

const PAGE = `<!doctype html><meta charset="utf-8"><title>test</title>
<script type="module">
  import * as tributary from '/dist/index.js';
  window.tributary = tributary;
</script>`;

/** One server with two origins: the second port is another origin to the first. */
export async function startServer() {
  const bundles = new Map();
  const pages = new Map([['/page.html', { headers: {}, body: PAGE }]]);
  /** Headers added to what lies in dist. */
  const distHeaders = new Map();
  let next = 1;

  const handle = async (request, response) => {
    const { pathname } = new URL(request.url, 'http://host');
    const [, kind, id, file] = pathname.split('/');
    if (pages.has(pathname)) {
      const { headers, body } = pages.get(pathname);
      return response.writeHead(200, { 'content-type': 'text/html', ...headers }).end(body);
    }
    if (kind === 'bundle' && bundles.has(id)) return serveBundle(bundles.get(id), decodeURIComponent(file ?? ''), request, response);
    if (kind === 'dist') return serveFile(join(DIST, normalize(pathname.slice('/dist'.length))), response, distHeaders.get(id) ?? {});
    if (kind === 'hooks') return serveFile(fileURLToPath(new URL(`hooks/${id}`, import.meta.url)), response);
    response.writeHead(404).end();
  };

  const listen = () => new Promise((resolve) => {
    const server = createServer((request, response) => {
      handle(request, response).catch((error) => response.destroy(error));
    });
    server.listen(0, '127.0.0.1', () => resolve(server));
  });
  const servers = [await listen(), await listen()];
  const [origin, otherOrigin] = servers.map((server) => `http://localhost:${server.address().port}`);

  return {
    origin,
    otherOrigin,
    pages,
    distHeaders,
    /** `faults` by file name: a function of (request, response, good) in place of the good answer. */
    bundle(faults = {}) {
      const id = String(next++);
      const bundle = { id, url: `${origin}/bundle/${id}/`, faults, requests: [], cors: true, noRange: false, overrides: new Map() };
      bundles.set(id, bundle);
      return bundle;
    },
    async close() {
      for (const server of servers) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
    },
  };
}

async function serveFile(path, response, headers = {}) {
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile()) return response.writeHead(404).end();
  response.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream', 'content-length': found.size, 'access-control-allow-origin': '*', ...headers });
  createReadStream(path).pipe(response);
}

function serveBundle(bundle, file, request, response) {
  bundle.requests.push({ file, method: request.method, range: request.headers.range, ifRange: request.headers['if-range'] });
  if (bundle.cors) {
    response.setHeader('access-control-allow-origin', '*');
    response.setHeader('access-control-allow-headers', '*, range, if-range');
  }
  if (request.method === 'OPTIONS') return response.writeHead(204).end();
  const good = () => serveGood(bundle, file, request, response);
  const fault = bundle.faults[file];
  return fault ? fault(request, response, good) : good();
}

function serveGood(bundle, file, request, response) {
  const body = bundle.overrides.get(file) ?? contents.get(file);
  if (!body) return response.writeHead(404, { 'content-type': 'text/html' }).end('<!doctype html><p>no such file');
  const etag = `"${createHash('sha256').update(body).digest('hex').slice(0, 16)}"`;
  const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
  const same = request.headers['if-range'] === undefined || request.headers['if-range'] === etag;
  const headers = { etag, 'content-type': 'application/octet-stream', 'accept-ranges': 'bytes' };
  if (!range || bundle.noRange || !same) return response.writeHead(200, { ...headers, 'content-length': body.length }).end(body);
  const from = Number(range[1]);
  if (from >= body.length) return response.writeHead(416, { 'content-range': `bytes */${body.length}` }).end();
  return response.writeHead(206, { ...headers, 'content-length': body.length - from, 'content-range': `bytes ${from}-${body.length - 1}/${body.length}` }).end(body.subarray(from));
}
