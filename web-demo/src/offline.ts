// The service worker: after the first visit the shop opens without a network.

export type Offline = 'unsupported' | 'preparing' | 'ready' | 'failed';

/** Registers it and has it keep `files`; tells `changed` how far it is. */
export async function keepForOffline(changed: (state: Offline) => void): Promise<void> {
  if (!('serviceWorker' in navigator) || !import.meta.env.PROD) {
    changed('unsupported');
    return;
  }
  changed('preparing');
  navigator.serviceWorker.addEventListener('message', ({ data }: MessageEvent<unknown>) => {
    if (data === 'kept') changed('ready');
    if (data === 'not-kept') changed('failed');
  });
  try {
    await navigator.serviceWorker.register('./service-worker.js');
    const { active } = await navigator.serviceWorker.ready;
    active?.postMessage('keep');
  } catch {
    changed('failed');
  }
}
