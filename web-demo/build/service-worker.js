// Keeps the shop for the next visit, with or without a network. The build writes SHELL (what the page
// is made of), DATA (the model and the pictures) and their hashes in front of this text.

/* global SHELL, DATA, SHELL_HASH, DATA_HASH */

const shell = `shop-shell-${SHELL_HASH}`;
const data = `shop-data-${DATA_HASH}`;
const AT_ONCE = 6;

self.addEventListener('install', (event) => {
  // `reload`: what the HTTP cache holds may be of the version before.
  const files = SHELL.map((file) => new Request(file, { cache: 'reload' }));
  event.waitUntil(caches.open(shell).then((cache) => cache.addAll(files)).then(() => self.skipWaiting()));
});

self.addEventListener('activate', (event) => {
  const old = (name) => name.startsWith('shop-') && name !== shell && name !== data;
  event.waitUntil(
    caches.keys()
      .then((names) => Promise.all(names.filter(old).map((name) => caches.delete(name))))
      .then(() => self.clients.claim()),
  );
});

self.addEventListener('message', (event) => {
  if (event.data !== 'keep') return;
  event.waitUntil(
    keepData().then(
      () => event.source?.postMessage('kept'),
      () => event.source?.postMessage('not-kept'),
    ),
  );
});

// The page has just fetched most of these: they come from the HTTP cache.
async function keepData() {
  const cache = await caches.open(data);
  const kept = new Set((await cache.keys()).map((request) => request.url));
  const missing = DATA.map((file) => new URL(file, self.registration.scope).href).filter((url) => !kept.has(url));
  const next = async () => {
    for (let url = missing.pop(); url !== undefined; url = missing.pop()) await cache.add(url);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
}

self.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  // Anything but a plain read of this shop's own files goes its own way.
  if (request.method !== 'GET' || request.headers.has('range') || !url.href.startsWith(self.registration.scope)) return;
  event.respondWith(answer(request, url));
});

async function answer(request, url) {
  const page = request.mode === 'navigate';
  const key = page ? new URL('./', self.registration.scope).href : url.origin + url.pathname;
  return (await (await caches.open(shell)).match(key)) ?? (await (await caches.open(data)).match(key)) ?? fetch(request);
}
