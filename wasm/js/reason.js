// One sentence for a recommendation, from how its score falls when a part of the history is left out.

/** @import {Because} from './index.js' */

/** @type {Record<string, string>} */
const VERBS = { view: 'looked at', cart: 'put into the cart', favourite: 'marked', buy: 'bought', rate: 'rated' };
/** @type {Record<string, string>} */
const PARTS = { image: 'its look', text: 'its description', graph: 'what others chose together with it' };
/** A change far below the largest one is noise of the model, not a reason. */
const WORTH_NAMING = 0.3;

/**
 * @param {Because} because
 * @param {Map<string, string | undefined>} events The last event of each item of the history.
 * @param {(id: string) => string} title
 */
export function reason({ items, modalities }, events, title) {
  const counts = items.filter(({ change }) => change > 0 && change >= WORTH_NAMING * items[0].change).slice(0, 2);
  const part = modalities.filter(({ change }) => change > 0).sort((a, b) => b.change - a.change)[0];
  const close = part ? `, above all for ${PARTS[part.modality]}` : '';
  if (counts.length === 0) return part ? `Fits the history as a whole${close}.` : 'Nothing in the history speaks for it in particular.';
  const said = counts.map(({ id }) => `${VERBS[events.get(String(id)) ?? ''] ?? 'chose'} “${title(String(id))}”`);
  return `Because you ${said.join(' and ')}${close}.`;
}
