// B23: what servers and networks do wrong. Only the largest file or `bundle.json` misbehaves.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { content, LARGEST, skip, web } from './harness.mjs';

const FILE = LARGEST;
const HALF = Math.floor(content(FILE).length / 2);
const PORTAL = '<!DOCTYPE html><html><title>Sign in</title>Welcome to our network';

const status = (code, headers = {}) => (request, response) => response.writeHead(code, headers).end('no');
/** The first `n` requests go wrong, the others are answered well. */
const first = (n, fault) => {
  let seen = 0;
  return (request, response, good) => (seen++ < n ? fault(request, response, good) : good());
};
/** Sends half of the file and drops the connection. */
const drop = (request, response) => {
  const etag = `"${'0'.repeat(16)}"`;
  response.writeHead(200, { 'content-length': content(FILE).length, etag });
  response.write(content(FILE).subarray(0, HALF), () => setTimeout(() => response.destroy(), 100));
};

describe('network faults (B23)', { skip }, () => {
  const w = web();
  const load = (faults, options, more = {}) => w.page(async (page) => {
    const bundle = Object.assign(w.server.bundle(faults), more);
    const result = await page.evaluate(([url, options]) => tryOnce(url, options), [bundle.url, options]);
    assert.deepEqual(page.problems, []);
    const asked = (file) => bundle.requests.filter((request) => request.file === file && request.method === 'GET');
    return { ...result, asked };
  });
  const rejects = async (faults, code, pattern, options, more) => {
    const result = await load(faults, options, more);
    assert.equal(result.code, code, JSON.stringify(result));
    assert.ok(result.typed, 'instanceof TributaryError');
    assert.match(result.message, pattern);
    return result;
  };
  const succeeds = async (faults, options, more) => {
    const result = await load(faults, options, more);
    assert.equal(result.value?.ids.length, 3, JSON.stringify(result));
    return result;
  };

  it('404 of the manifest is MODEL_NOT_FOUND and names it', () => rejects({ 'bundle.json': status(404) }, 'MODEL_NOT_FOUND', /bundle\.json.*404/));
  it('404 of a file is MODEL_NOT_FOUND and names it', async () => {
    const { detail } = await rejects({ [FILE]: status(404) }, 'MODEL_NOT_FOUND', /safetensors.*404/);
    assert.equal(detail.file, FILE);
  });
  it('401 is UNAUTHORIZED', () => rejects({ 'bundle.json': status(401) }, 'UNAUTHORIZED', /401/));
  it('403 of a file is UNAUTHORIZED', () => rejects({ [FILE]: status(403) }, 'UNAUTHORIZED', /403/));

  it('429 is tried again, not before Retry-After', async () => {
    const times = [];
    const fault = first(1, (request, response) => status(429, { 'retry-after': '2' })(request, response));
    await succeeds({ [FILE]: (...call) => { times.push(Date.now()); return fault(...call); } });
    assert.equal(times.length, 2);
    assert.ok(times[1] - times[0] >= 2000, `${times[1] - times[0]} ms`);
  });
  it('503 twice is survived', () => succeeds({ 'bundle.json': first(2, status(503)) }));
  it('503 for ever is a retriable NETWORK after three retries', async () => {
    const { asked, retriable } = await rejects({ [FILE]: status(503) }, 'NETWORK', /503/);
    assert.equal(asked(FILE).length, 4);
    assert.equal(retriable, true);
  });
  it('a redirect is followed', () => succeeds({
    [FILE]: (request, response, good) => request.url.includes('?moved') ? good() : response.writeHead(302, { location: `${request.url}?moved` }).end(),
  }));

  it('a connection that drops is resumed where it ended', async () => {
    const { asked } = await succeeds({ [FILE]: first(1, (request, response, good) => {
      // The good answer's headers, so that the ETag is the file's.
      const write = response.end.bind(response);
      response.end = (body) => { response.write(body.subarray(0, HALF), () => setTimeout(() => response.destroy(), 100)); return response; };
      good();
      response.end = write;
    }) });
    assert.equal(asked(FILE).length, 2);
    assert.match(asked(FILE)[1].range, /^bytes=[1-9]\d*-$/);
    assert.ok(asked(FILE)[1].ifRange);
  });
  it('an ETag that changed on the way starts over', async () => {
    const { asked } = await succeeds({ [FILE]: first(1, drop) });
    assert.equal(asked(FILE).length, 2);
    assert.equal(asked(FILE)[1].ifRange, `"${'0'.repeat(16)}"`);
  });
  it('a server without ranges starts over', () => succeeds({ [FILE]: first(1, drop) }, {}, { noRange: true }));
  it('a stall is tried again', async () => {
    const stall = (request, response) => {
      response.writeHead(200, { 'content-length': content(FILE).length });
      response.write(content(FILE).subarray(0, HALF));
    };
    const { asked } = await succeeds({ [FILE]: first(1, stall) }, { stallTimeoutMs: 1000 });
    assert.equal(asked(FILE).length, 2);
  });
  it('a stall for ever is NETWORK and says so', () =>
    rejects({ [FILE]: (request, response) => { response.writeHead(200); response.flushHeaders(); } }, 'NETWORK', /nothing came for 0\.5 s/, { stallTimeoutMs: 500 }));
  it('a slow file takes its time', () => succeeds({ 'tokenizer.json': (request, response) => {
    const body = content('tokenizer.json');
    response.writeHead(200, { 'content-length': body.length });
    let at = 0;
    const timer = setInterval(() => {
      response.write(body.subarray(at, at += 8192));
      if (at >= body.length) { clearInterval(timer); response.end(); }
    }, 150);
  } }, { stallTimeoutMs: 1000 }));

  it('a Content-Length above the truth does no harm', () => succeeds({ [FILE]: (request, response) => {
    response.writeHead(200, { 'content-length': content(FILE).length + 100 });
    response.write(content(FILE), () => setTimeout(() => response.destroy(), 100));
  } }));
  it('a Content-Length below the truth is made up for by a range', () => succeeds({ [FILE]: first(1, (request, response) => {
    response.writeHead(200, { 'content-length': HALF });
    response.end(content(FILE).subarray(0, HALF));
  }) }));
  it('a compressed length is not taken for the size', async () => {
    const { gzipSync } = await import('node:zlib');
    await succeeds({ [FILE]: (request, response) => {
      const body = gzipSync(content(FILE));
      response.writeHead(200, { 'content-length': body.length, 'content-encoding': 'gzip' }).end(body);
    } });
  });
  it('a file that is really short is INTEGRITY', () => rejects({ [FILE]: (request, response) => {
    const body = content(FILE).subarray(0, HALF);
    if (request.headers.range) return response.writeHead(416).end();
    return response.writeHead(200, { 'content-length': body.length }).end(body);
  } }, 'INTEGRITY', /safetensors/));
  it('a file that is too long is INTEGRITY', () => rejects({ [FILE]: (request, response) => {
    response.writeHead(200).end(Buffer.concat([content(FILE), Buffer.from('more')]));
  } }, 'INTEGRITY', /safetensors/));

  it('a captive portal in place of the manifest is named', async () => {
    const { detail } = await rejects({ 'bundle.json': (request, response) => response.writeHead(200, { 'content-type': 'text/html' }).end(PORTAL) }, 'NETWORK', /HTML.*captive portal/);
    assert.match(detail.hint, /address is wrong/);
  });
  it('a captive portal in place of weights is named', () =>
    rejects({ [FILE]: (request, response) => response.writeHead(200, { 'content-type': 'text/html' }).end(PORTAL) }, 'NETWORK', /safetensors.*HTML/));
  it('a manifest that is no manifest is MODEL_INVALID', () =>
    rejects({ 'bundle.json': (request, response) => response.writeHead(200).end('{"format_version": 1}') }, 'MODEL_INVALID', /bundle\.json/));

  it('another origin without CORS is NETWORK with a hint', () => w.page(async (page) => {
    const bundle = Object.assign(w.server.bundle(), { cors: false });
    const url = bundle.url.replace(w.server.origin, w.server.otherOrigin);
    const result = await page.evaluate((url) => tryOnce(url), url);
    assert.equal(result.code, 'NETWORK');
    assert.match(result.detail.hint, /CORS/);
  }));
  it('another origin with CORS works, and resumes without its ETag', () => w.page(async (page) => {
    const bundle = w.server.bundle({ [FILE]: first(1, drop) });
    const url = bundle.url.replace(w.server.origin, w.server.otherOrigin);
    const { value } = await page.evaluate((url) => tryOnce(url), url);
    assert.equal(value.ids.length, 3);
    const ranged = bundle.requests.find(({ file, method, range }) => file === FILE && method === 'GET' && range);
    assert.equal(ranged.ifRange, undefined);
  }));

  it('a worker script that does not load is OFFLINE without a network, else INTERNAL with a hint', () => w.page(async (page, context) => {
    const own = () => page.evaluate((url) => tryOnce(url, { worker: () => new Worker('/nothing.js', { type: 'module' }) }), w.server.bundle().url);
    const online = await own();
    await context.setOffline(true);
    const offline = [await page.evaluate((url) => tryOnce(url), w.server.bundle().url), await own()];
    assert.equal(online.code, 'INTERNAL', JSON.stringify(online));
    assert.match(online.detail.hint, /\{ type: 'module' \}/);
    for (const result of offline) {
      assert.equal(result.code, 'OFFLINE', JSON.stringify(result));
      assert.match(result.detail.hint, /HTTP cache.*service worker/);
    }
  }));

  it('a fetch of the caller is used for every file, on the page', () => w.page(async (page) => {
    const bundle = w.server.bundle({ [FILE]: (request, response, good) => request.headers.authorization ? good() : response.writeHead(401).end() });
    const result = await page.evaluate(async (url) => {
      const urls = [];
      const own = (url, init) => {
        urls.push(url);
        return fetch(url, { ...init, headers: { ...init.headers, authorization: 'Bearer x' } });
      };
      return { ...await tryOnce(url, { fetch: own }), urls };
    }, bundle.url);
    assert.equal(result.value?.ids.length, 3, JSON.stringify(result));
    assert.equal(result.urls.length, bundle.requests.filter(({ method }) => method === 'GET').length);
  }));
});
