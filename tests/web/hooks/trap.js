// Wraps the exports of the WebAssembly instance: where ?export= says it traps, at once (?how=sync) or
// inside a future, whose promise then never settles (?how=future), or has no memory left that it does
// not have already (?how=full). The traps are real ones.

const parameters = new URL(location.href).searchParams;
const wanted = parameters.get('export') ?? 'engine_recommend';
/** A module with one function, `unreachable`. */
const TRAP = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 116, 0, 0, 10, 5, 1, 3, 0, 0, 11]);
const trap = new WebAssembly.Instance(new WebAssembly.Module(TRAP)).exports.t;
const { instantiateStreaming } = WebAssembly;
const MOST_PAGES = 65_536;

/** Takes the pages that are left; they cost nothing until they are touched. @param {WebAssembly.Memory} memory */
function fill(memory) {
  for (let pages = MOST_PAGES; pages >= 1;) {
    try {
      memory.grow(pages);
    } catch {
      pages /= 2;
    }
  }
}

WebAssembly.instantiateStreaming = async (...call) => {
  const { instance, module } = await instantiateStreaming(...call);
  const failing = {
    sync: () => trap(),
    future() {
      queueMicrotask(() => trap());
      return new Promise(() => {});
    },
    full(...call) {
      fill(instance.exports.memory);
      return instance.exports[wanted](...call);
    },
  }[parameters.get('how') ?? 'sync'];
  return { module, instance: { exports: { ...instance.exports, [wanted]: failing } } };
};
