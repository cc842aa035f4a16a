// Small words for the pages of the tests.

/** What a promise came to, in a form that leaves the page. */
window.outcome = async (promise) => {
  try {
    return { value: await promise };
  } catch (error) {
    return {
      name: error.name,
      code: error.code,
      message: error.message,
      retriable: error.retriable,
      detail: error.detail,
      typed: error instanceof tributary.TributaryError,
      aborted: error instanceof DOMException && error.name === 'AbortError',
    };
  }
};

/** Loads, asks once, disposes. */
window.tryOnce = (url, options = {}) => window.outcome((async () => {
  const events = [];
  const recommender = await tributary.Recommender.fromPretrained(url, {
    device: 'wasm',
    progressCallback: (event) => events.push(event),
    ...options,
  });
  try {
    const answer = await recommender.recommend({ history: ['vase-01', 'sock-01'], k: 3 });
    return { ids: answer.items.map(({ id }) => id), backend: answer.backend, events };
  } finally {
    await recommender.dispose();
  }
})());

/**
 * Loads on a GPU that fails as `query` says, see faulty_gpu_worker.js. `again` is the script of the workers
 * after the first; `given` is a worker that cannot be replaced.
 */
window.loadFaulty = async (url, query, { again, given, ...options } = {}) => {
  const channel = new BroadcastChannel('faulty gpu');
  const seen = { failed: 0, workers: 0, events: [] };
  let counted;
  channel.onmessage = ({ data }) => {
    if (data.failed) seen.failed++;
    else counted?.(data.calls);
  };
  const start = () => new Worker(seen.workers++ && again ? again : `/hooks/faulty_gpu_worker.js?${new URLSearchParams(query)}`, { type: 'module' });
  const loaded = await outcome(tributary.Recommender.fromPretrained(url, {
    device: 'webgpu',
    allowSoftwareAdapter: true,
    worker: given ? start() : start,
    ...options,
  }));
  for (const type of ['devicelost', 'recovered']) loaded.value?.addEventListener(type, (event) => seen.events.push([type, event.willRecover ?? null]));
  return {
    seen,
    recommender: loaded.value,
    /** Without the recommender, which cannot leave the page. */
    loaded: { ...loaded, value: loaded.value && loaded.value.info.id },
    /** Arms the fault or lets it happen; the worker hears of it before a call that comes later. */
    tell: async (what) => {
      channel.postMessage(what);
      await new Promise((resolve) => setTimeout(resolve, 200));
    },
    /** Calls so far, or since it was armed. */
    count: () => new Promise((resolve) => {
      counted = resolve;
      channel.postMessage({ count: true });
    }),
  };
};
