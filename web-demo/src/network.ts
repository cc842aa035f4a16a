// Counts what the browser asked the network for since the page was opened.

export interface Requests {
  total: number;
  elsewhere: number; // to any other site
}

/** Calls `changed` with the sum after every request of the page. */
export function watchRequests(changed: (requests: Requests) => void): void {
  const requests: Requests = { total: 1, elsewhere: 0 }; // the page itself
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (!(entry instanceof PerformanceResourceTiming) || !entry.name.startsWith('http')) continue;
      requests.total += 1;
      if (new URL(entry.name).origin !== location.origin) requests.elsewhere += 1;
    }
    changed({ ...requests });
  });
  observer.observe({ type: 'resource', buffered: true });
  changed({ ...requests });
}
