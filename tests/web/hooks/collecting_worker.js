// A worker that collects garbage whenever a file is being opened.
import '/dist/worker.js';

const { createSyncAccessHandle } = FileSystemFileHandle.prototype;
FileSystemFileHandle.prototype.createSyncAccessHandle = function (...call) {
  void collect();
  return createSyncAccessHandle.apply(this, call);
};

/** Some steps later, when our caller waits and no frame holds the file any more. */
async function collect() {
  for (let step = 0; step < 10; step++) await undefined;
  gc();
}
