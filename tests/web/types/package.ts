// Compiled, never run: what a strict TypeScript project may and may not write with the package.

import {
  getCapabilities, models, Recommender, TributaryError,
  type CacheBackend, type Device, type Interaction, type Item, type ItemId, type LoadOptions, type ModelFiles,
  type ProgressInfo, type RecommendRequest, type RecommendResponse, type ScoredItem, type TributaryErrorCode,
} from 'tributary';

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
const is = <T extends true>(): T | undefined => undefined;

export async function everything(folder: ModelFiles, page: URL, cache: CacheBackend, own: Worker): Promise<void> {
  const options: LoadOptions = {
    device: 'auto', dtype: 'q8', cache: 'opfs', worker: true, integrity: { 'bundle.json': 'sha256-AAAA' },
    progressCallback(event) {
      is<Same<typeof event, ProgressInfo>>();
      if (event.status === 'progress_total') event.files['model.safetensors']?.loaded.toFixed();
      if (event.status === 'ready') is<Same<typeof event.task, 'recommend'>>();
      // @ts-expect-error: only some events have a file
      event.file;
    },
  };
  await Recommender.fromPretrained('./model/', options);
  await Recommender.fromPretrained(page, { device: { language: 'webgpu' }, cache, worker: own });
  await Recommender.fromPretrained(folder, { worker: () => new Worker('worker.js', { type: 'module' }), wasm: page });
  // @ts-expect-error: not a device
  await Recommender.fromPretrained('./model/', { device: 'gpu' });
  // @ts-expect-error: a hash says which
  await Recommender.fromPretrained('./model/', { integrity: { 'bundle.json': 'md5-AAAA' } });
  // @ts-expect-error: there is nothing to construct
  new Recommender();

  await using recommender = await Recommender.fromPretrained('./model/');
  is<Same<typeof recommender, Recommender>>();
  // @ts-expect-error: what a bundle is does not change
  recommender.info = recommender.info;

  const items: Item[] = await recommender.catalog();
  const history: readonly (ItemId | Interaction)[] = ['a', 7, { item: 'b', event: 'view' }, { item: items[0]!, event: 'wishlist', time: new Date() }];
  const request: RecommendRequest = { history, k: 5, hide: ['image'], filter: (item) => (item.price ?? 0) < 50, explain: true };
  const answer = await recommender.recommend(request, { signal: AbortSignal.timeout(1000), priority: 'background' });
  is<Same<typeof answer, RecommendResponse>>();
  is<Same<typeof answer.backend.device, 'webgpu' | 'wasm'>>();
  is<Same<typeof answer.items, ScoredItem[]>>();
  for (const { because } of answer.items) because?.modalities.map(({ modality }) => is<Same<typeof modality, 'image' | 'text' | 'graph'>>());
  // What may be left out may be undefined, too.
  const signal: AbortSignal | undefined = undefined;
  await Recommender.fromPretrained('./model/', { signal, device: undefined, progressCallback: undefined });
  await recommender.recommend({ history, k: undefined, filter: undefined }, { signal, timeoutMs: undefined });
  answer.usage.unknownItems.toFixed(answer.timings.explainMs);
  // @ts-expect-error: a request has a history
  await recommender.recommend({ k: 5 });
  // @ts-expect-error: not a part of an item
  await recommender.recommend({ history, hide: ['sound'] });

  for await (const part of recommender.recommendStream(request)) {
    if ('item' in part) is<Same<typeof part.item, ScoredItem>>();
    else if ('done' in part) is<Same<typeof part.done, RecommendResponse>>();
    else part.reasonDelta.trim();
  }

  const { skipped } = await recommender.setCatalog(new Set(items), { mode: 'add' });
  skipped.map(({ reason }) => reason.length);
  const { data, dims } = await recommender.embed(['a shirt', new Blob(), { id: 'x', title: 'a shirt' }]);
  is<Same<typeof dims, [number, number]>>();
  data.subarray(0, dims[1]);
  const { results } = await recommender.rerank({ history: ['a'], documents: ['one', { id: 2 }], topN: 1 });
  results[0]?.relevanceScore.toFixed();
  await recommender.rerank({ query: 'a shirt', documents: [] });
  // @ts-expect-error: one of the two
  await recommender.rerank({ query: 'a shirt', history: ['a'], documents: [] });

  recommender.addEventListener('devicelost', (event) => is<Same<typeof event.willRecover, boolean>>());
  recommender.addEventListener('recovered', () => {});

  const { webgpu, storage } = await getCapabilities();
  const device: Device = webgpu ? 'webgpu' : 'wasm';
  const { fits } = await models.estimate('./model/', { device });
  if (fits && (storage?.quota ?? 0) > 0) await models.clear(page);
}

export function codeOf(error: unknown): TributaryErrorCode | undefined {
  if (!(error instanceof TributaryError)) return undefined;
  is<Same<typeof error.retriable, boolean>>();
  error.detail?.hint?.trim();
  // @ts-expect-error: not a code
  if (error.code === 'OOPS') return undefined;
  return error.code;
}
