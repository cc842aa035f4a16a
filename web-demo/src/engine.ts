// The recommender of this page: loads it, loads it anew for another device, keeps what each call cost.

import {
  Recommender,
  TributaryError,
  type Item,
  type ModelInfo,
  type ProgressInfo,
  type RecommendRequest,
  type RecommendResponse,
} from 'tributary';

import type { OwnProduct, OwnProducts } from './own';
import { isRecord, read, write } from './store';

export type Modality = 'image' | 'text' | 'graph';
export const MODALITIES: readonly Modality[] = ['image', 'text', 'graph'];
/** What a shopper calls them. */
export const MODALITY_NAMES: Record<Modality, string> = {
  image: 'Picture',
  text: 'Text',
  graph: 'Graph',
};

export type DeviceChoice = 'auto' | 'webgpu' | 'wasm';

export interface Problem {
  title: string;
  detail: string;
  advice: string;
}

export interface Download {
  loaded: number;
  total: number;
}

/** One call of the recommender. */
export interface Call {
  purpose: string;
  timings: RecommendResponse['timings'];
  usage: RecommendResponse['usage'];
}

const KEPT_CALLS = 40;

interface Switches {
  device: DeviceChoice;
  hide: Modality[];
}

const isSwitches = (value: unknown): value is Switches =>
  isRecord(value) &&
  ['auto', 'webgpu', 'wasm'].includes(String(value['device'])) &&
  Array.isArray(value['hide']) &&
  value['hide'].every((hidden) => MODALITIES.some((modality) => modality === hidden));

/** Dispatches `state` when loading or failing, `ready`, `call`, and `switch` for a modality. */
export class Engine extends EventTarget {
  phase: 'loading' | 'ready' | 'failed' = 'loading';
  download: Download | null = null;
  problem: Problem | null = null;
  /** Why it does not run where it was asked to. */
  fallback: string | null = null;
  backend: RecommendResponse['backend'] | null = null;
  readonly calls: Call[] = [];
  /** The model's files that came over the network since the page was opened, with their bytes. */
  readonly fetched = new Map<string, number>();

  readonly #model: URL;
  readonly #own: OwnProducts;
  readonly #allowSoftwareAdapter: boolean;
  #recommender: Recommender | null = null;
  #loading: AbortController | null = null;
  #switches: Switches = read('switches', isSwitches, { device: 'auto', hide: [] });

  constructor(model: URL, own: OwnProducts, allowSoftwareAdapter: boolean) {
    super();
    this.#model = model;
    this.#own = own;
    this.#allowSoftwareAdapter = allowSoftwareAdapter;
  }

  get info(): ModelInfo | null {
    return this.#recommender?.info ?? null;
  }

  get device(): DeviceChoice {
    return this.#switches.device;
  }

  get hidden(): readonly Modality[] {
    return this.#switches.hide;
  }

  /** Lets the recommender use a modality, or not; the last one stays on. */
  setModality(modality: Modality, on: boolean): boolean {
    const hide = this.#switches.hide.filter((hidden) => hidden !== modality);
    if (!on) hide.push(modality);
    if (hide.length === MODALITIES.length) return false;
    this.#switches = { ...this.#switches, hide };
    write('switches', this.#switches);
    this.dispatchEvent(new Event('switch'));
    return true;
  }

  async setDevice(device: DeviceChoice): Promise<void> {
    this.#switches = { ...this.#switches, device };
    write('switches', this.#switches);
    await this.load();
  }

  /** Loads the recommender, in place of the one there is. Never rejects: `problem` says what is wrong. */
  async load(): Promise<void> {
    this.#loading?.abort();
    const loading = (this.#loading = new AbortController());
    const before = this.#recommender;
    this.#recommender = null;
    Object.assign(this, { phase: 'loading', download: null, problem: null, fallback: null, backend: null });
    this.#changed();
    try {
      await before?.dispose();
      const recommender = await this.#open(loading.signal);
      if (loading.signal.aborted) return void (await recommender.dispose());
      await this.#addOwn(recommender);
      this.#recommender = recommender;
      this.phase = 'ready';
      this.#changed();
      this.dispatchEvent(new Event('ready'));
    } catch (error) {
      if (loading.signal.aborted) return;
      this.phase = 'failed';
      this.problem = problem(error);
      this.#changed();
    }
  }

  /** Asks the recommender; what it cost is kept under `purpose`, if there is one. */
  async ask(
    purpose: string | null,
    request: RecommendRequest,
    options: { signal?: AbortSignal; background?: boolean } = {},
  ): Promise<RecommendResponse> {
    const recommender = this.#ready();
    const { signal, background } = options;
    const response = await recommender.recommend(
      { targetBehaviour: 'buy', hide: [...this.hidden], ...request },
      { ...(signal && { signal }), priority: background ? 'background' : 'user' },
    );
    if (recommender === this.#recommender && purpose !== null) {
      this.backend = response.backend;
      this.calls.push({ purpose, timings: response.timings, usage: response.usage });
      this.calls.splice(0, this.calls.length - KEPT_CALLS);
      this.dispatchEvent(new Event('call'));
    }
    return response;
  }

  async add(product: OwnProduct): Promise<void> {
    const info = await this.#ready().setCatalog([this.#item(product)], { mode: 'add' });
    const refused = info.skipped.find((skipped) => skipped.id === product.id);
    if (refused !== undefined) throw new Error(refused.reason);
  }

  /** One row of length 1 per picture. */
  async embed(pictures: readonly (URL | Blob)[], signal: AbortSignal): Promise<Float32Array[]> {
    const { data, dims } = await this.#ready().embed(pictures, { signal, priority: 'background' });
    return pictures.map((_, i) => data.subarray(i * dims[1], (i + 1) * dims[1]));
  }

  /** From now on `ids` and the visitor's own products are what is recommended. */
  async keep(ids: readonly string[]): Promise<void> {
    const items: Item[] = ids.map((id) => ({ id }));
    await this.#ready().setCatalog([...items, ...this.#own.all.map((own) => this.#item(own))], {
      mode: 'replace',
    });
  }

  #ready(): Recommender {
    if (this.#recommender === null) throw new Error('the recommender is not loaded');
    return this.#recommender;
  }

  async #open(signal: AbortSignal): Promise<Recommender> {
    const device = this.#switches.device;
    const options = {
      signal,
      allowSoftwareAdapter: this.#allowSoftwareAdapter,
      progressCallback: (event: ProgressInfo) => {
        if (event.status === 'download') this.fetched.set(event.file, 0);
        if (event.status === 'progress' && this.fetched.has(event.file)) this.fetched.set(event.file, event.loaded);
        if (event.status !== 'progress_total' || signal.aborted) return;
        this.download = { loaded: event.loaded, total: event.total };
        this.#changed();
      },
    };
    try {
      return await Recommender.fromPretrained(this.#model, { ...options, device });
    } catch (error) {
      // Asked for WebGPU where there is none: say so, and recommend on the CPU.
      if (device !== 'webgpu' || !isWithoutGpu(error) || signal.aborted) throw error;
      this.fallback = error instanceof Error ? error.message : String(error);
      return await Recommender.fromPretrained(this.#model, { ...options, device: 'wasm' });
    }
  }

  async #addOwn(recommender: Recommender): Promise<void> {
    const items = this.#own.all.map((product) => this.#item(product));
    if (items.length > 0) await recommender.setCatalog(items, { mode: 'add' });
  }

  #item(product: OwnProduct): Item {
    const category = product.category === '' ? {} : { category: product.category };
    return { id: product.id, title: product.title, ...category, image: this.#own.blob(product) };
  }

  #changed(): void {
    this.dispatchEvent(new Event('state'));
  }
}

const GPU_CODES = ['WEBGPU_UNAVAILABLE', 'FEATURE_MISSING', 'LIMIT_EXCEEDED', 'DEVICE_LOST'];

const isWithoutGpu = (error: unknown): boolean =>
  error instanceof TributaryError && GPU_CODES.includes(error.code);

/** What went wrong, and what the visitor can do about it. */
export function problem(error: unknown): Problem {
  const detail = error instanceof Error ? error.message : String(error);
  const code = error instanceof TributaryError ? error.code : '';
  const hint = error instanceof TributaryError ? error.detail?.hint : undefined;
  const known: Record<string, [string, string]> = {
    OFFLINE: ['You are offline', 'Connect once, so that the model can be kept in this browser; then it works offline.'],
    NETWORK: ['The model did not arrive', 'Check the connection and try again.'],
    MODEL_NOT_FOUND: ['The model is not on this server', 'Whoever runs this page: run “node prepare.mjs” before “npm run build”.'],
    INTEGRITY: ['The model arrived damaged', 'Try again: the damaged file is fetched anew.'],
    QUOTA: ['This browser has no space left', 'Free some space, or use a window that is not private.'],
    OUT_OF_MEMORY: ['There is too little memory', 'Close other tabs and try again.'],
    DEVICE_LOST: ['The GPU went away', 'Try again, or choose CPU under “Behind the scenes”.'],
    WASM_TRAP: ['The recommender stopped', 'Try again; the visit is kept.'],
  };
  const unknown = hint ?? 'Reload the page. The shop itself goes on working.';
  const [title, advice] = known[code] ?? ['The recommender did not start', unknown];
  return { title, detail: code === '' ? detail : `${code}: ${detail}`, advice };
}
