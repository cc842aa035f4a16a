'use client';

import { useEffect, useState } from 'react';

export default function Recommendations() {
  const [progress, setProgress] = useState(0);
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState(null);

  useEffect(() => {
    // React may run effects twice; the first run is then aborted.
    const leaving = new AbortController();
    recommend(setProgress, leaving.signal).then(setAnswer, (error) => {
      if (error.name !== 'AbortError') setError(error);
    });
    return () => leaving.abort();
  }, []);

  // `code` is stable and meant for programs; `message` is for people.
  if (error) return <p id="status" role="status">No recommendations: {error.code ?? error.name}: {error.message}</p>;
  if (!answer) return <p id="status" role="status">Loading the model <progress max="100" value={progress} /></p>;
  return (
    <>
      <p id="status" role="status">{`Answered on ${answer.device}`}</p>
      <ol id="items">{answer.items.map(({ id, title }) => <li key={id} data-id={id}>{title}</li>)}</ol>
    </>
  );
}

async function recommend(showProgress, signal) {
  // Imported here, so that the page's own script stays small and the server never sees it.
  const { Recommender } = await import('tributary');
  const parameters = new URLSearchParams(location.search);
  const recommender = await Recommender.fromPretrained(parameters.get('model') ?? '/model/', {
    device: parameters.get('device') ?? 'auto',
    allowSoftwareAdapter: parameters.has('software'), // for tests; leave it out
    progressCallback: (event) => event.status === 'progress_total' && showProgress(event.progress),
    signal,
  });
  try {
    // What the shopper did, oldest first. Here the first items of the catalogue; a shop has its own.
    const catalogue = await recommender.catalog();
    const [viewed, carted, bought] = catalogue.map(({ id }) => id);
    const { items, backend } = await recommender.recommend({
      history: [{ item: viewed, event: 'view' }, { item: carted, event: 'cart' }, { item: bought, event: 'buy' }],
      k: 5,
    }, { signal });
    const titles = new Map(catalogue.map(({ id, title }) => [id, title]));
    return { device: backend.device, items: items.map(({ id }) => ({ id, title: titles.get(id) ?? id })) };
  } finally {
    // This page asks once; one that asks again keeps its recommender.
    await recommender.dispose();
  }
}
