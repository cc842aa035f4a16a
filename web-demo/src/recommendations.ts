// What is asked of the recommender: the strip after every event, one product's standing and why.

import type { Because, Interaction, RecommendResponse } from 'tributary';

import type { Catalogue } from './catalogue';
import { problem, type Engine, type Modality, type Problem } from './engine';
import type { Visit, VisitEvent } from './visit';

export interface Ranked {
  id: string;
  score: number;
  rank: number;
}

/** By leave-one-out: what the score loses without a history item, or without a modality. */
export interface Reasons {
  items: { id: string; change: number }[];
  modalities: { modality: Modality; change: number }[];
}

export interface Standing {
  rank: number;
  of: number;
  around: Ranked[]; // the ranking next to it, itself included
  reasons: Reasons | null;
}

export const STRIP = 10;
const EXPLAINED = 3;
const AROUND = 2;

const interactions = (events: readonly VisitEvent[]): Interaction[] =>
  events.map((event) => ({ item: event.item, event: event.behaviour, time: new Date(event.time) }));

const ranked = (response: RecommendResponse): Ranked[] =>
  response.items.map(({ id, score, rank }) => ({ id: String(id), score, rank }));

const asReasons = ({ items, modalities }: Because): Reasons =>
  ({ items: items.map((item) => ({ id: String(item.id), change: item.change })), modalities });

/** Dispatches `change` when the strip is new, `reasons` when its first items are explained. */
export class Recommendations extends EventTarget {
  items: Ranked[] = [];
  before = new Map<string, number>();
  reasons = new Map<string, Reasons>();
  /** The recommender is at it. */
  busy = false;
  problem: Problem | null = null;

  readonly #engine: Engine;
  readonly #visit: Visit;
  readonly #catalogue: Catalogue;
  #asking: AbortController | null = null;

  constructor(engine: Engine, visit: Visit, catalogue: Catalogue) {
    super();
    this.#engine = engine;
    this.#visit = visit;
    this.#catalogue = catalogue;
    for (const [source, name] of [[visit, 'change'], [engine, 'ready'], [engine, 'switch']] as const) {
      source.addEventListener(name, () => void this.refresh());
    }
  }

  /** Asks anew; an older question that is still running is dropped. */
  async refresh(): Promise<void> {
    this.#asking?.abort();
    if (this.#engine.phase !== 'ready') return;
    const { signal } = (this.#asking = new AbortController());
    const history = interactions(this.#visit.events);
    this.busy = true;
    this.dispatchEvent(new Event('busy'));
    try {
      const answer = await this.#engine.ask('strip', { history, k: STRIP }, { signal });
      if (signal.aborted) return;
      this.before = new Map(this.items.map((item) => [item.id, item.rank]));
      this.items = ranked(answer);
      this.reasons = new Map();
      this.problem = null;
      this.busy = false;
      this.dispatchEvent(new Event('change'));
      if (history.length > 0) await this.#explain(history, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.busy = false;
      this.problem = problem(error);
      this.dispatchEvent(new Event('change'));
    }
  }

  async #explain(history: Interaction[], signal: AbortSignal): Promise<void> {
    const request = { history, k: EXPLAINED, explain: true };
    const answer = await this.#engine.ask(null, request, { signal, background: true });
    if (signal.aborted) return;
    for (const { id, because } of answer.items) {
      if (because === undefined) continue;
      this.reasons.set(String(id), asReasons(because));
    }
    this.dispatchEvent(new Event('reasons'));
  }

  /**
   * Where `id` stands among all products, judged by everything but what was done with it; and why.
   */
  async standing(id: string, signal: AbortSignal): Promise<Standing | null> {
    const events = this.#visit.events.filter((event) => event.item !== id);
    const request = { history: interactions(events), k: this.#catalogue.size, excludeSeen: false, hide: this.#engine.hidden };
    const answer = await this.#engine.ask(null, { ...request, explain: events.length > 0 ? [id] : false }, { signal, background: true });
    const ranking = ranked(answer);
    const found = answer.items.find((item) => String(item.id) === id);
    if (found === undefined) return null;
    const from = Math.max(0, Math.min(found.rank - 1 - AROUND, ranking.length - 2 * AROUND - 1));
    const around = ranking.slice(from, from + 2 * AROUND + 1);
    const reasons = found.because === undefined ? null : asReasons(found.because);
    const standing: Standing = { rank: found.rank, of: ranking.length, around, reasons };
    if (events.length === 0) return standing;
    await this.#readAgain(signal);
    return standing;
  }

  /**
   * Has the model read the visit once more, in idle time: it keeps the last prompt that it read, so the
   * next event costs its own tokens only. What was asked about a product made it read another.
   */
  async #readAgain(signal: AbortSignal): Promise<void> {
    const history = interactions(this.#visit.events);
    await this.#engine.ask(null, { history, k: 1 }, { signal, background: true });
  }
}
