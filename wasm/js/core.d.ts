// What wasm-bindgen's core.js exports, for the type check of the sources beside it. Not shipped:
// the generated file is.

export interface BundleFile { name: string; bytes: number; component: string; sha256: string }
export interface EngineInfo {
  recommender: string; items: number; parameters: number; bytes: number; device: 'cpu' | 'gpu';
  adapter: string; licence: string; provenance: string; max_input_tokens: number | null;
  encodes: ('image' | 'text')[]; dtype: string; modalities: ('image' | 'text' | 'graph')[]; behaviours: string[];
}
export interface EngineItem {
  id: string | number; title?: string; brand?: string; category?: string; price?: number;
  description?: string; caption?: string; summary?: string; image?: string; attributes?: Record<string, string>;
}
export interface EngineRequest {
  history: { item: string; behaviour?: string; time?: number }[];
  target_behaviour?: string; candidates?: string[]; k: number; exclude_seen: boolean; exclude: string[];
  query?: string; hide?: ('image' | 'text' | 'graph')[];
}
export interface EngineAnswer {
  items: { id: string | number; score: number; rank: number }[];
  timings: { prepare_ms: number; forward_ms: number; retrieve_ms: number; encode_ms: number;
    prefill_ms: number; score_ms: number; rank_ms: number; total_ms: number };
  usage: { prompt_tokens: number; cached_tokens: number; image_tokens: number; history_items: number;
    unknown_items: number; candidates: number };
  backend: { device: string; adapter: string };
  valid: boolean;
}
export interface Explanation {
  id: string | number; score: number;
  by_item: { id: string | number; change: number }[];
  by_modality: { modality: 'image' | 'text' | 'graph'; change: number }[];
}
export interface Picture { width: number; height: number; rgba: Uint8Array | Uint8ClampedArray }

/** Resolves to the instance's exports. */
export default function init(options: { module_or_path: string | URL | Response | BufferSource | WebAssembly.Module }):
  Promise<{ memory?: WebAssembly.Memory } | void>;
export function self_check(): Promise<number>;
/** Bytes of the last allocation that failed, 0 if none did; the one export that may be called after a trap. */
export function failed_allocation(): number;
export function gpu_self_check(allow_software: boolean): Promise<{ adapter: string; nmse: number }>;
export class Bundle {
  constructor(manifest: Uint8Array);
  files(): BundleFile[];
  append(name: string, chunk: Uint8Array): void;
  finish(name: string): void;
  discard(name: string): void;
  open(device: 'cpu' | 'gpu', allow_software: boolean): Promise<Engine>;
  free(): void;
}
export class Engine {
  info(): EngineInfo;
  items(): EngineItem[];
  recommend(request: EngineRequest): Promise<EngineAnswer>;
  explain(request: EngineRequest, ids: string[]): Promise<Explanation[]>;
  add_item(item: EngineItem, picture?: Picture): Promise<number>;
  embed_texts(texts: string[]): Promise<Float32Array>;
  embed_picture(picture: Picture): Promise<Float32Array>;
  free(): void;
}
