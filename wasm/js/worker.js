// The worker's entry. A page connects with a port of its own, so messages of others do not matter.

import { serve } from './host.js';

/** @param {{ tributary?: 'connect', port: MessagePort, alive: string }} data */
function connect({ tributary, port, alive }) {
  if (tributary !== 'connect') return;
  let release = () => {};
  serve(port, { onDispose: () => release() });
  const hello = () => port.postMessage({ hello: true });
  if (!navigator.locks) return hello();
  // No event tells a page that its worker was terminated; a lock that comes free does.
  navigator.locks.request(alive, () => new Promise((resolve) => {
    release = () => resolve(undefined);
    hello();
  })).catch(hello);
}

globalThis.addEventListener('message', (event) => connect(/** @type {MessageEvent} */ (event).data));
