/// <reference lib="dom" />
/// <reference lib="esnext.disposable" />
/**
 * Tributary: multimodal recommendation on the user's own device. Importing the package does nothing;
 * work begins with `Recommender.fromPretrained`.
 */

/** Where the model runs. `auto` measures both on the loaded bundle and takes the faster one. */
export type Device = 'auto' | 'webgpu' | 'wasm';
/** How weights are stored. A bundle has one form; asking for another one is refused. */
export type DType = 'auto' | 'fp32' | 'fp16' | 'q8' | 'q4' | 'q4f16';
export type ModuleName = 'vision' | 'projector' | 'language' | 'head';
export type Modality = 'image' | 'text' | 'graph';

/** The events of transformers.js, so that progress bars made for it work. Percentages are 0..100. */
export type ProgressInfo =
  | { status: 'initiate' | 'download' | 'done'; name: string; file: string }
  | { status: 'progress'; name: string; file: string; progress: number; loaded: number; total: number }
  | { status: 'progress_total'; name: string; progress: number; loaded: number; total: number;
      files: Record<string, { loaded: number; total: number }> }
  /** Shader pipelines and, for items that come at run time, embeddings. */
  | { status: 'compile'; name: string; progress: number }
  | { status: 'ready'; task: 'recommend'; model: string };

/** A store of your own for downloaded files. Keys are the files' addresses. */
export interface CacheBackend {
  match(key: string): Promise<Response | undefined>;
  put(key: string, r: Response): Promise<void>;
  delete(key: string): Promise<boolean>;
  keys(): Promise<string[]>;
}
/** A bundle that does not come by HTTP: a folder picked by the user, a file system, an archive. */
export interface ModelFiles {
  /**
   * Reads a file of the bundle, `bundle.json` first. A missing file rejects with a `NotFoundError` or
   * `ENOENT`. A stream that gives 1000 empty chunks in a row is refused.
   */
  read(file: string, range?: [start: number, end: number]): Promise<ReadableStream<Uint8Array> | Uint8Array>;
  list?(): Promise<string[]>;
}
export interface ModelInfo {
  /** The address given to `fromPretrained`, or `files` for a `ModelFiles`. */
  id: string;
  revision?: string;
  /** The bundle's recommender, such as `tmf`. */
  architecture: string;
  parameters: number;
  /** Size of the model in memory. */
  bytes: number;
  /** Items of the bundle's own catalogue. */
  items: number;
  /** `Infinity` when the recommender keeps to its own window. */
  maxInputTokens: number;
  dtype: DType;
  modalities: Modality[];
  /** Kinds of events the model tells apart, such as `view` and `buy`. */
  behaviours: string[];
  /** What items that come at run time, and `embed`, may bring. Empty when the bundle has no encoder. */
  encodes: ('image' | 'text')[];
  license?: string;
  provenance?: string;
}
export interface CatalogInfo {
  /** Items that can be recommended now. */
  items: number;
  /** Of the items given, those whose picture was read or is in the bundle. */
  withImage: number;
  /** Items that were left out, and why; they do not fail the others. */
  skipped: { id: ItemId; reason: string }[];
  /** Bytes of text and pixels that were handed to the model. */
  bytes: number;
}
export interface LoadOptions {
  /** With `remoteHost` only: a branch, tag or commit. Default `main`. */
  revision?: string | undefined;
  /** Folder below the model's address that holds `bundle.json`. */
  subfolder?: string | undefined;
  /** One device for all modules; a record must name the same one for each. Default `auto`. */
  device?: Device | Partial<Record<ModuleName, Device>> | undefined;
  /** `auto`, or the bundle's own form, which is then checked. */
  dtype?: DType | Partial<Record<ModuleName, DType>> | undefined;
  /** Bundles carry merged weights; none takes adapters yet: rejects with ADAPTER_INVALID. */
  adapter?: string | { model: string; revision?: string; scale?: number } | undefined;
  /** What it throws is reported (`reportError`, in Node `console.error`), and the load goes on. */
  progressCallback?: ((e: ProgressInfo) => void) | undefined;
  /**
   * Aborting rejects with a DOMException named AbortError; a reason given to `abort` is its `cause`. What was
   * downloaded is kept for the next time.
   */
  signal?: AbortSignal | undefined;
  /** Use the cache alone; OFFLINE when a file is missing there. */
  localFilesOnly?: boolean | undefined;
  /**
   * Where downloads are kept. `auto`: the origin private file system, else the Cache API, else nowhere.
   * A store that does not work, or is full, never fails a load: the next one is tried.
   */
  cache?: 'auto' | 'opfs' | 'cache-api' | 'memory' | CacheBackend | undefined;
  /** Hashes by file name. With one for `bundle.json` every byte is pinned: the manifest has the others' hashes. */
  integrity?: Record<string, `sha256-${string}` | `sha384-${string}` | `sha512-${string}`> | undefined;
  /** LIMIT_EXCEEDED before the download when the bundle is larger; near it the event `memorypressure`. */
  memoryBudgetBytes?: number | undefined;
  /** Used for the bundle's files in place of the global one; called on the page. */
  fetch?: typeof fetch | undefined;
  /** A server with the layout of the Hugging Face hub; the model is then a name such as `org/name`. */
  remoteHost?: string | undefined;
  /** A download that brings nothing for so long is tried again. Default 30 000. */
  stallTimeoutMs?: number | undefined;
  /**
   * `false` runs in the page (and is the default where there are no web workers, as in Node). There
   * nothing can be rejected while a pass runs in WebAssembly: a call that was aborted, or whose time was
   * over, rejects when the pass ends.
   * A function that makes workers keeps recovery possible; a single `Worker` cannot be replaced.
   */
  worker?: boolean | Worker | (() => Worker) | undefined;
  /** Address or content of `core_bg.wasm`, where a bundler cannot find it by itself. */
  wasm?: string | URL | Response | BufferSource | WebAssembly.Module | undefined;
  onDeviceLost?: 'recover' | 'reject' | undefined;
  /** WebGPU on a processor: slow, for tests only. Default false. */
  allowSoftwareAdapter?: boolean | undefined;
}
/** A string is an address. PNG, JPEG, WebP, GIF, BMP and AVIF; the first frame of an animation. */
export type ImageInput = Blob | ImageBitmap | ImageData | HTMLImageElement | HTMLCanvasElement
  | OffscreenCanvas | HTMLVideoElement | URL | string;
/**
 * A string, or a whole number up to 2^53. `42` and `'42'` are the same item; you get back the form you gave. An
 * empty string, or one with half of a surrogate pair, is no id: INVALID_ARGUMENT, from `setCatalog` a skipped item.
 */
export type ItemId = string | number;
export interface Item {
  id: ItemId;
  /** The item in words; the same as `description`. */
  text?: string;
  title?: string;
  brand?: string;
  category?: string;
  price?: number;
  description?: string;
  /** What its picture shows, in words: what recommenders read that see no pictures (`mllm4rec`). */
  caption?: string;
  /** What the item is, its text and its picture together, in words (`mllm_srec`). */
  summary?: string;
  image?: ImageInput;
  attributes?: Record<string, string | number | boolean>;
}
export interface Interaction {
  item: ItemId | Item;
  event?: 'view' | 'cart' | 'buy' | 'rate' | (string & {});
  /** A rating, for instance. Checked, and not read by any recommender of this version. */
  value?: number;
  /** A `Date`, or seconds since 1970. Events are sorted by it when each has one. */
  time?: number | Date;
}

export interface RecommendRequest {
  /** Oldest first. */
  history: ReadonlyArray<ItemId | Interaction>;
  /** Default: the whole catalogue. Any item that is known, also one that `setCatalog` with `replace` left out. */
  candidates?: ReadonlyArray<ItemId | Item> | undefined;
  /** For models that read text; INVALID_ARGUMENT elsewhere. At most 500 000 characters. */
  query?: string | undefined;
  /** Items to return at most. Default 10. */
  k?: number | undefined;
  /** Leave out the items of the history. Default true. */
  excludeSeen?: boolean | undefined;
  exclude?: ReadonlyArray<ItemId> | undefined;
  /** Called in the page for every candidate. */
  filter?: ((item: Item) => boolean) | undefined;
  /**
   * Adds `reason` and `because` to the first three items, or to those of the returned items that are
   * named; an id that is not returned is ignored.
   */
  explain?: boolean | ReadonlyArray<ItemId> | undefined;
  /** Checked and not needed: answers do not depend on chance. */
  seed?: number | undefined;
  /** The event to predict, one of `info.behaviours`. */
  targetBehaviour?: string | undefined;
  /** Parts of the items the model must not look at in this call. */
  hide?: ReadonlyArray<Modality> | undefined;
}
export interface Because {
  /** How much the score falls without this item of the history; largest first. */
  items: { id: ItemId; change: number }[];
  /** How much it falls without this part of all items. */
  modalities: { modality: Modality; change: number }[];
}
export interface ScoredItem {
  id: ItemId;
  /** Comparable within one answer. */
  score: number;
  /** 1 is the best. */
  rank: number;
  /** A sentence in English, made from `because`. */
  reason?: string;
  because?: Because;
}
export interface RecommendResponse {
  items: ScoredItem[];
  model: string;
  requestId: string;
  backend: { device: 'webgpu' | 'wasm'; adapter?: string; dtype: DType; fallbackReason?: string };
  /**
   * `historyItems`: events the model saw. `unknownItems`: entries of the history that the catalogue does
   * not know; they are left out, and when none is known the answer is the catalogue's popularity.
   */
  usage: { promptTokens: number; imageTokens: number; cachedTokens: number; historyItems: number; unknownItems: number };
  /** `explainMs` is 0 without `explain`, and a part of `totalMs`. */
  timings: { queueMs: number; encodeMs: number; prefillMs: number; scoreMs: number; explainMs: number; totalMs: number };
}
export interface RunOptions {
  /** Rejects at once, as in `LoadOptions`; a pass that is already running ends unseen. */
  signal?: AbortSignal | undefined;
  /** Calls of users go before background work. Default `user`. */
  priority?: 'user' | 'background' | undefined;
  /**
   * TIMEOUT after so long, waiting in the queue included. A worker that still runs the call 30 s later is
   * taken for hung and replaced, if it can be; the calls behind it wait until then. The same holds for
   * `signal`. A call with neither waits as long as it takes, and those behind it with it.
   */
  timeoutMs?: number | undefined;
}
export type RerankRequest =
  & { documents: ReadonlyArray<string | Item>; topN?: number }
  & ({ query: string; history?: undefined } | { query?: undefined; history: ReadonlyArray<ItemId | Interaction> });

export interface DeviceLostEvent extends Event { readonly reason: string; readonly willRecover: boolean }
export interface MemoryPressureEvent extends Event { readonly usedBytes: number; readonly budgetBytes?: number }
export interface RecommenderEventMap {
  devicelost: DeviceLostEvent;
  /** The device or the worker was replaced; calls are answered again. */
  recovered: Event;
  memorypressure: MemoryPressureEvent;
}

export class Recommender extends EventTarget implements AsyncDisposable {
  private constructor();
  /**
   * Loads a bundle. `model` is the address of the folder that holds `bundle.json`, relative to the
   * page; or your own `ModelFiles`.
   */
  static fromPretrained(model: string | URL | ModelFiles, options?: LoadOptions): Promise<Recommender>;
  readonly info: ModelInfo;
  /**
   * Says what can be recommended. With `replace` (the default) exactly these items, with `add` these
   * too. Known ids keep what the bundle knows of them; others are embedded now, if `info.encodes`
   * allows it. Waits behind calls of users unless `priority` says otherwise. Items with an unknown key, and
   * new ones whose picture cannot be read or that have neither title, text, description nor image, are
   * skipped; an entry that is no object rejects with INVALID_ARGUMENT. `candidates` may name any item
   * known, also outside of a replaced catalogue.
   */
  setCatalog(items: Iterable<Item> | AsyncIterable<Item>,
    o?: RunOptions & { mode?: 'add' | 'replace' | undefined; progressCallback?: ((e: ProgressInfo) => void) | undefined }): Promise<CatalogInfo>;
  /** The items of the bundle. */
  catalog(): Promise<Item[]>;
  recommend(req: RecommendRequest, o?: RunOptions): Promise<RecommendResponse>;
  /** The items first; then, with `explain`, the reasons one by one; `done` at the end. */
  recommendStream(req: RecommendRequest, o?: RunOptions):
    AsyncIterable<{ item: ScoredItem } | { reasonDelta: string; id: ItemId } | { done: RecommendResponse }>;
  /**
   * Orders documents by the cosine of their text embeddings with the query's, or with the mean of the
   * history's. INVALID_ARGUMENT when `info.encodes` has no `text`. Texts have at most 500 000 characters.
   */
  rerank(req: RerankRequest, o?: RunOptions): Promise<{ results: { index: number; relevanceScore: number }[] }>;
  /**
   * One row of length 1 per input, texts and pictures in one space. A string is a text (give a `URL`
   * for a picture); an item is its picture where it has one, else its text. The encoder reads the start of
   * a long text; one of more than 500 000 characters is INPUT_TOO_LONG.
   */
  embed(inputs: ReadonlyArray<string | ImageInput | Item>,
    o?: RunOptions & { normalize?: true | undefined }): Promise<{ data: Float32Array; dims: [number, number] }>;
  /** Rejects with ADAPTER_INVALID: no recommender takes adapters yet, bundles carry merged weights. */
  loadAdapter(a: string, o?: LoadOptions): Promise<void>;
  /** Rejects with ADAPTER_INVALID, as no adapter can be loaded. */
  unloadAdapter(name?: string): Promise<void>;
  /** Ends the worker and frees all memory. Calls that wait or run reject with DISPOSED. */
  dispose(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
  addEventListener<T extends keyof RecommenderEventMap>(type: T,
    listener: (event: RecommenderEventMap[T]) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions): void;
}

export interface Capabilities {
  webgpu: boolean;
  f16: boolean;
  subgroups: boolean;
  /** Of the WebGPU adapter; empty without one. */
  limits: Record<string, number>;
  storage?: { quota: number; usage: number; persisted: boolean };
  crossOriginIsolated: boolean;
}
/** What this browser offers. Never rejects. */
export function getCapabilities(): Promise<Capabilities>;

/** Downloaded models in the browser's own stores. */
export const models: {
  files(id: string | URL, o?: Pick<LoadOptions, 'revision' | 'dtype'>): Promise<{ file: string; bytes: number; cached: boolean }[]>;
  estimate(id: string | URL, o?: Pick<LoadOptions, 'dtype' | 'device'>):
    Promise<{ downloadBytes: number; gpuBytes: number; fits: boolean; reasons: string[] }>;
  /** True when every file is there with its full size. Hashes are checked when it is loaded. */
  isCached(id: string | URL): Promise<boolean>;
  /** Forgets one model, or all. */
  clear(id?: string | URL): Promise<{ files: number; bytes: number }>;
};

export type TributaryErrorCode = 'WEBGPU_UNAVAILABLE' | 'FEATURE_MISSING' | 'LIMIT_EXCEEDED' | 'OUT_OF_MEMORY'
  | 'DEVICE_LOST' | 'WASM_TRAP' | 'MODEL_NOT_FOUND' | 'UNAUTHORIZED' | 'NETWORK' | 'INTEGRITY' | 'QUOTA' | 'OFFLINE'
  | 'MODEL_INVALID' | 'UNSUPPORTED_MODEL' | 'ADAPTER_INVALID' | 'TEMPLATE' | 'INVALID_ARGUMENT' | 'INPUT_TOO_LONG'
  | 'IMAGE' | 'TIMEOUT' | 'DISPOSED' | 'INTERNAL';
/** Every failure that is not an abort. */
export class TributaryError extends Error {
  readonly name: 'TributaryError';
  readonly code: TributaryErrorCode;
  /** The same call may succeed later. */
  readonly retriable: boolean;
  readonly detail?: { file?: string; field?: string; hint?: string };
  constructor(code: TributaryErrorCode, message: string,
    more?: { file?: string; field?: string; hint?: string; retriable?: boolean; cause?: unknown });
}
