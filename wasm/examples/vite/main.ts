import { Recommender, TributaryError, type Device, type ProgressInfo } from 'tributary';

const status = document.querySelector<HTMLElement>('#status')!;
const bar = document.querySelector<HTMLProgressElement>('#bar')!;
const list = document.querySelector<HTMLOListElement>('#items')!;
const parameters = new URLSearchParams(location.search);

function showProgress(event: ProgressInfo): void {
  if (event.status !== 'progress_total') return; // other events name single files
  status.textContent = 'Loading the model';
  bar.value = event.progress;
}

async function main(): Promise<void> {
  const recommender = await Recommender.fromPretrained(parameters.get('model') ?? './model/', {
    device: (parameters.get('device') ?? 'auto') as Device,
    allowSoftwareAdapter: parameters.has('software'), // for tests; leave it out
    progressCallback: showProgress,
  });

  // What the shopper did, oldest first. Here the first items of the catalogue; a shop has its own.
  const catalogue = await recommender.catalog();
  const [viewed, carted, bought] = catalogue.map(({ id }) => id);
  const answer = await recommender.recommend({
    history: [{ item: viewed, event: 'view' }, { item: carted, event: 'cart' }, { item: bought, event: 'buy' }],
    k: 5,
  });

  const titles = new Map(catalogue.map(({ id, title }) => [id, title]));
  for (const { id } of answer.items) {
    const line = document.createElement('li');
    line.textContent = titles.get(id) ?? String(id);
    line.dataset.id = String(id);
    list.append(line);
  }
  status.textContent = `Answered on ${answer.backend.device}`;
}

main()
  .catch((error: unknown) => {
    // `code` is stable and meant for programs; the message is for people.
    const code = error instanceof TributaryError ? `${error.code}: ` : '';
    status.textContent = `No recommendations: ${code}${error instanceof Error ? error.message : String(error)}`;
  })
  .finally(() => { bar.hidden = true; });
