// Copies the demo bundle and the drawn pictures to where Vite serves them: public/model and
// public/images. Both are made by this repository and stay out of git.
//
//   node prepare.mjs [--model DIR] [--images DIR] [--if-changed]

import { cp, mkdir, readFile, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.dirname(here);

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: path.join(root, 'native/demo') },
    images: { type: 'string', default: path.join(root, 'target/shop/images') },
    'if-changed': { type: 'boolean', default: false },
  },
});

const there = (file) => stat(file).then(() => true, () => false);

function fail(message) {
  console.error(`prepare: ${message}`);
  process.exit(1);
}

const target = (name) => path.join(here, 'public', name);

if (!(await there(path.join(values.model, 'bundle.json')))) {
  fail(`no bundle.json in ${values.model}. Name a bundle of TMF with --model DIR.`);
}
if (!(await there(values.images))) {
  fail(
    `no pictures in ${values.images}. Draw them: ./run prepare shop --out target/shop ` +
      '(in the repository), or name their folder with --images DIR.',
  );
}

// The manifest holds the hashes of all other files.
const same = async (file) => {
  const [from, to] = [path.join(values.model, file), path.join(target('model'), file)];
  return (await there(to)) && (await readFile(from)).equals(await readFile(to));
};
if (values['if-changed'] && (await there(target('images'))) && (await same('bundle.json'))) process.exit(0);

const manifest = JSON.parse(await readFile(path.join(values.model, 'bundle.json'), 'utf8'));
const files = manifest.components.flatMap((component) => component.files.map((file) => file.name));
await rm(target('model'), { recursive: true, force: true });
await mkdir(target('model'), { recursive: true });
for (const name of ['bundle.json', ...files]) {
  await cp(path.join(values.model, name), path.join(target('model'), name));
}

const pictures = (await readdir(values.images)).filter((name) => name.endsWith('.png'));
await rm(target('images'), { recursive: true, force: true });
await mkdir(target('images'), { recursive: true });
for (const name of pictures) {
  await cp(path.join(values.images, name), path.join(target('images'), name));
}
console.log(`prepare: ${files.length + 1} files of the bundle, ${pictures.length} pictures`);
