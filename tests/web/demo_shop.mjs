// The built shop page on a server of its own, and the steps a shopper takes on it.

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

export const DEMO = fileURLToPath(new URL('../../web-demo', import.meta.url));
const DIST = path.join(DEMO, 'dist');
const FOLDER = '/some/folder/'; // a host's sub-folder: nothing may depend on being at '/'

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.wasm': 'application/wasm',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.json': 'application/json',
  '.webmanifest': 'application/manifest+json',
};

// The strictest policy a host may send.
const POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'";

const CHROMIUM = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const SOFTWARE_GPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** Builds the page unless DEMO_BUILT is set. */
export function build() {
  if (!existsSync(path.join(DEMO, 'node_modules'))) {
    throw new Error('web-demo has no node_modules: run `npm ci` there first');
  }
  if (process.env.DEMO_BUILT) return;
  execFileSync('npm', ['run', 'build'], { cwd: DEMO, stdio: ['ignore', 'ignore', 'inherit'] });
}

/** Serves what was built. `port` is kept when the server comes back. */
export async function serve(port = 0) {
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://shop');
    const name = decodeURIComponent(pathname).slice(FOLDER.length) || 'index.html';
    const file = path.join(DIST, name);
    try {
      if (!pathname.startsWith(FOLDER) || !file.startsWith(DIST)) throw new Error('not here');
      const body = await readFile(file);
      const type = TYPES[path.extname(name)] ?? 'application/octet-stream';
      response.writeHead(200, { 'content-type': type, 'content-security-policy': POLICY }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((listening) => server.listen(port, '127.0.0.1', listening));
  return {
    url: `http://127.0.0.1:${server.address().port}${FOLDER}`,
    port: server.address().port,
    close: () =>
      new Promise((closed) => {
        server.close(closed);
        server.closeAllConnections();
      }),
  };
}

export const launch = ({ gpu = false } = {}) =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [...CHROMIUM, ...(gpu ? SOFTWARE_GPU : ['--disable-gpu'])],
  });

export const DESKTOP = { viewport: { width: 1440, height: 900 } };
export const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

/** A page that fails the test for every error it reports, except those that match `expected`. */
export async function open(context, url, expected = null) {
  const page = await context.newPage();
  const errors = [];
  const note = (text) => expected?.test(text) || errors.push(text);
  page.on('console', (message) => message.type() === 'error' && note(message.text()));
  page.on('pageerror', (error) => note(String(error)));
  await page.goto(url);
  return { page, errors };
}

/** Until the strip holds the answer to the last event, reasons included. */
export async function settled(page, { reasons = false } = {}) {
  await page.waitForSelector('#strip:not([aria-busy]) .strip-card', { timeout: 60_000 });
  if (reasons) await page.waitForFunction(() => document.querySelector('.strip-why')?.textContent !== '');
}

/** The strip's ids and scores, best first. */
export const strip = (page) =>
  page.$$eval('.strip-card', (cards) => cards.map(({ dataset }) => [dataset.id, Number(dataset.score)]));

/** Does `step`, and gives the strip that follows from it. */
export async function after(page, step) {
  const mark = await page.evaluate(() => {
    const number = (window.stripChanges ??= 0);
    window.stripWatcher ??= new MutationObserver(() => {
      if (!document.getElementById('strip').hasAttribute('aria-busy')) window.stripChanges += 1;
    });
    window.stripWatcher.observe(document.getElementById('strip'), { attributeFilter: ['aria-busy'] });
    return number;
  });
  await step();
  await page.waitForFunction((before) => window.stripChanges > before, mark, { timeout: 60_000 });
  return strip(page);
}
