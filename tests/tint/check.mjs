// Compiles every .wgsl file of a folder with Tint, through Dawn without a GPU.
// node check.mjs FOLDER: exit code 1 and the messages when a file is refused.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { create } from 'webgpu';

const folder = process.argv[2];
const gpu = create(['backend=null']);
const adapter = await gpu.requestAdapter();
const wanted = ['shader-f16', 'subgroups'].filter((feature) => adapter.features.has(feature));
const device = await adapter.requestDevice({ requiredFeatures: wanted });

let refused = 0;
for (const file of readdirSync(folder).filter((name) => name.endsWith('.wgsl'))) {
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code: readFileSync(join(folder, file), 'utf8') });
  const { messages } = await module.getCompilationInfo();
  await device.popErrorScope();
  for (const message of messages.filter((message) => message.type === 'error')) {
    console.log(`${file}:${message.lineNum}: ${message.message}`);
    refused += 1;
  }
}
device.destroy();
process.exit(refused > 0 ? 1 : 0);
