// localStorage that may be full, forbidden, or hold what an older version wrote.

const PREFIX = 'tributary-shop:1:';

/** The stored value when `check` accepts it, else `otherwise`. */
export function read<T>(key: string, check: (value: unknown) => value is T, otherwise: T): T {
  try {
    const text = localStorage.getItem(PREFIX + key);
    if (text === null) return otherwise;
    const value: unknown = JSON.parse(text);
    return check(value) ? value : otherwise;
  } catch {
    return otherwise;
  }
}

/** False when the browser refuses to keep it: the page works on, and forgets at the next load. */
export function write(key: string, value: unknown): boolean {
  try {
    localStorage.setItem(PREFIX + key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
