// node main.js [FOLDER]: recommends from the bundle in FOLDER (default ./model).

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Recommender } from 'tributary';

const folder = process.argv[2] ?? 'model';

// A bundle need not come by HTTP: anything with a `read` will do.
const files = { read: (name) => readFile(join(folder, name)) };

try {
  const recommender = await Recommender.fromPretrained(files, {
    device: 'wasm', // the CPU
    worker: false, // Node has no web workers; it runs in this thread
    progressCallback(event) {
      if (event.status === 'progress_total') process.stderr.write(`\rloading ${event.progress.toFixed(0)} %`);
    },
  });
  process.stderr.write('\n');

  // What the shopper did, oldest first. Here the first items of the catalogue; a shop has its own.
  const catalogue = await recommender.catalog();
  const [viewed, carted, bought] = catalogue.map(({ id }) => id);
  const answer = await recommender.recommend({
    history: [{ item: viewed, event: 'view' }, { item: carted, event: 'cart' }, { item: bought, event: 'buy' }],
    k: 5,
  });

  const titles = new Map(catalogue.map(({ id, title }) => [id, title]));
  for (const { rank, id } of answer.items) console.log(`${rank}\t${id}\t${titles.get(id) ?? ''}`);
  await recommender.dispose();
} catch (error) {
  // `code` is stable and meant for programs; `message` is for people.
  console.error(`No recommendations: ${error.code ?? error.name}: ${error.message}`);
  process.exitCode = 1;
}
