// A recommender on a GPU that fails, for the tests of WebGPU.

export const HISTORY = ['vase-01', 'sock-01'];

/**
 * Loads, arms the fault unless the load had it (`armed: 0`), and asks once with each of `asks`. `query` is
 * that of hooks/faulty_gpu_worker.js, `options` those of `loadFaulty`; `idle` lets it fail before each call.
 */
export const askFaulty = (w, query, { options, asks = [{}, {}], idle = false } = {}) => w.page(async (page) => {
  const seen = await page.evaluate(async ([url, query, options, asks, idle, history]) => {
    const { loaded, recommender, seen, tell } = await loadFaulty(url, query, options);
    const results = [];
    if (recommender) {
      if (query.armed === 0) await tell({ arm: true });
      for (const ask of asks) {
        if (idle) await tell({ fail: true });
        results.push(await outcome(recommender.recommend({ history, k: 3 }, ask)));
      }
      await recommender.dispose();
    }
    return { loaded, ...seen, results };
  }, [w.server.bundle().url, query, options, asks, idle, HISTORY]);
  /** Ids or codes. */
  const answers = seen.results.map(({ value, code }) => code ?? value.items.map(({ id }) => id).join());
  return { ...seen, answers, all: JSON.stringify(seen) };
});
