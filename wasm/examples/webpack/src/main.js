import { Recommender } from 'tributary';

const status = document.getElementById('status');
const bar = document.getElementById('bar');
const parameters = new URLSearchParams(location.search);

function showProgress(event) {
  if (event.status !== 'progress_total') return; // other events name single files
  status.textContent = 'Loading the model';
  bar.value = event.progress;
}

async function main() {
  const recommender = await Recommender.fromPretrained(parameters.get('model') ?? './model/', {
    device: parameters.get('device') ?? 'auto',
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
    line.textContent = titles.get(id) ?? id;
    line.dataset.id = id;
    document.getElementById('items').append(line);
  }
  status.textContent = `Answered on ${answer.backend.device}`;
}

main()
  .catch((error) => {
    // `code` is stable and meant for programs; `message` is for people.
    status.textContent = `No recommendations: ${error.code ?? error.name}: ${error.message}`;
  })
  .finally(() => { bar.hidden = true; });
