// The address after '#': no server needs to know it, and the back button closes what is open.

export type Route =
  | { name: 'shop' }
  | { name: 'item'; id: string }
  | { name: 'cart' }
  | { name: 'studio' }
  | { name: 'panel' };

export const itemLink = (id: string): string => `#/item/${encodeURIComponent(id)}`;

export function current(): Route {
  const [, name, rest] = location.hash.split('/');
  if (name === 'item' && rest !== undefined && rest !== '') {
    try {
      return { name, id: decodeURIComponent(rest) };
    } catch {
      return { name: 'shop' };
    }
  }
  return name === 'cart' || name === 'studio' || name === 'panel' ? { name } : { name: 'shop' };
}

const listeners: ((route: Route) => void)[] = [];

export function onRoute(listener: (route: Route) => void): void {
  listeners.push(listener);
}

export function dispatchRoute(): void {
  for (const listener of listeners) listener(current());
}

/** Back to the shop, without scrolling and without another step in the visitor's way back. */
export function leave(): void {
  if (location.hash === '') return;
  history.replaceState(null, '', location.pathname + location.search);
  dispatchRoute();
}

addEventListener('hashchange', dispatchRoute);
