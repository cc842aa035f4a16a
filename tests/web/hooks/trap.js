// Wraps the exports of the WebAssembly instance: where ?export= says it traps, at once (?how=sync) or
// inside a future, whose promise then never settles (?how=future). The trap is a real one.

const parameters = new URL(location.href).searchParams;
const wanted = parameters.get('export') ?? 'engine_recommend';
/** A module with one function, `unreachable`. */
const TRAP = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 116, 0, 0, 10, 5, 1, 3, 0, 0, 11]);
const trap = new WebAssembly.Instance(new WebAssembly.Module(TRAP)).exports.t;
const { instantiateStreaming } = WebAssembly;

WebAssembly.instantiateStreaming = async (...call) => {
  const { instance, module } = await instantiateStreaming(...call);
  const failing = () => {
    if (parameters.get('how') !== 'future') return trap();
    queueMicrotask(() => trap());
    return new Promise(() => {});
  };
  return { module, instance: { exports: { ...instance.exports, [wanted]: failing } } };
};
