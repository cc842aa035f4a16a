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
