// What the shopper did on this visit: the recommender's history. The cart follows from it.

import { isRecord, read, write } from './store';

export type Behaviour = 'view' | 'cart' | 'buy';

export interface VisitEvent {
  item: string;
  behaviour: Behaviour;
  time: number; // milliseconds since 1970
}

const BEHAVIOURS: readonly unknown[] = ['view', 'cart', 'buy'] satisfies Behaviour[];

const isEvents = (value: unknown): value is VisitEvent[] =>
  Array.isArray(value) &&
  value.every(
    (event) =>
      isRecord(event) &&
      typeof event['item'] === 'string' &&
      typeof event['time'] === 'number' &&
      BEHAVIOURS.includes(event['behaviour']),
  );

/** Dispatches `change` after every change. */
export class Visit extends EventTarget {
  #events: VisitEvent[] = read('events', isEvents, []);
  #before: VisitEvent[] | null = null;

  /** Oldest first. */
  get events(): readonly VisitEvent[] {
    return this.#events;
  }

  /** Adds an event. Looking twice in a row at one product is one look. */
  record(item: string, behaviour: Behaviour): void {
    const last = this.#events.at(-1);
    if (behaviour === 'view' && last?.item === item) return;
    this.#set([...this.#events, { item, behaviour, time: Date.now() }]);
  }

  undo(event: VisitEvent): void {
    this.#set(this.#events.filter((other) => other !== event));
  }

  undoLast(): void {
    this.#set(this.#events.slice(0, -1));
  }

  /** Replaces the whole visit; `restore` brings the one before it back. */
  start(events: VisitEvent[]): void {
    this.#before = this.#events;
    this.#set(events);
  }

  restore(): void {
    if (this.#before !== null) this.#set(this.#before);
    this.#before = null;
  }

  /** Forgets every event of an item that is no more. */
  forget(item: string): void {
    this.#set(this.#events.filter((event) => event.item !== item));
  }

  /** Put into the cart and not bought since, each once, in that order. */
  get cart(): string[] {
    const cart = new Set<string>();
    for (const { item, behaviour } of this.#events) {
      if (behaviour === 'cart') cart.add(item);
      if (behaviour === 'buy') cart.delete(item);
    }
    return [...cart];
  }

  /** Takes an item out of the cart: it counts as never put there. */
  takeOut(item: string): void {
    const events = this.#events;
    const bought = events.findLastIndex((e) => e.item === item && e.behaviour === 'buy');
    this.#set(events.filter((e, i) => i < bought || e.item !== item || e.behaviour !== 'cart'));
  }

  buyCart(): void {
    const time = Date.now();
    const bought = this.cart.map((item): VisitEvent => ({ item, behaviour: 'buy', time }));
    this.#set([...this.#events, ...bought]);
  }

  /** The strongest thing that was done with an item. */
  strongest(item: string): Behaviour | undefined {
    const done = new Set(this.#events.filter((e) => e.item === item).map((e) => e.behaviour));
    return (['buy', 'cart', 'view'] as const).find((behaviour) => done.has(behaviour));
  }

  #set(events: VisitEvent[]): void {
    this.#events = events;
    write('events', events);
    this.dispatchEvent(new Event('change'));
  }
}

/** The sentence "because …". */
export function youDid(behaviour: Behaviour | undefined, title: string): string {
  switch (behaviour) {
    case 'buy':
      return `you bought ${title}`;
    case 'cart':
      return `you chose ${title}`;
    default:
      return `you viewed ${title}`;
  }
}
