// Ready-made visits: what such a shopper could have done here, picked by rule from the catalogue.

import type { Catalogue, Product } from './catalogue';
import type { Behaviour, VisitEvent } from './visit';

export interface Shopper {
  name: string;
  likes: string;
  suits: (item: Product) => boolean;
}

const shows = (item: Product, words: RegExp): boolean => words.test(item.caption);
const is = (item: Product, words: RegExp): boolean => words.test(item.id);

export const SHOPPERS: readonly Shopper[] = [
  {
    name: 'Runner',
    likes: 'sneakers, caps, bottles; blue',
    suits: (item) => is(item, /^(sneaker|cap|water-bottle|t-shirt|sock)-/) && shows(item, /blue/),
  },
  {
    name: 'Parent',
    likes: 'things for kids, dots',
    suits: (item) => item.audience === 'Kids' && shows(item, /dotted/),
  },
  {
    name: 'Student moving in',
    likes: 'lamps, mugs, cushions for students',
    suits: (item) =>
      item.audience === 'Student' && is(item, /^(table-lamp|mug|cushion|plant-pot|teapot)-/),
  },
  {
    name: 'Rainy day',
    likes: 'umbrellas and boots, green',
    suits: (item) => is(item, /^(umbrella|rain-boot|backpack)-/) && shows(item, /green/),
  },
  {
    name: 'Dunmore regular',
    likes: 'one brand, whatever it makes',
    suits: (item) => item.brand === 'Dunmore' && item.audience === 'Senior',
  },
];

// Seek and find: a look around, then products that are looked at, put into the cart and bought.
const STEPS: readonly Behaviour[][] = [
  ['view'],
  ['view', 'cart', 'buy'],
  ['view', 'cart'],
  ['view'],
  ['view', 'cart', 'buy'],
];

/** The visit of `shopper`, ended `now`; the last minute is the last event. */
export function visitOf(shopper: Shopper, catalogue: Catalogue, now = Date.now()): VisitEvent[] {
  const items = catalogue.bundled.filter(shopper.suits);
  const stride = Math.max(1, Math.floor(items.length / STEPS.length));
  const events: VisitEvent[] = [];
  STEPS.forEach((behaviours, step) => {
    const item = items[step * stride];
    if (item === undefined) return;
    for (const behaviour of behaviours) events.push({ item: item.id, behaviour, time: 0 });
  });
  return events.map((event, i) => ({ ...event, time: now - (events.length - i) * 60_000 }));
}
