// A worker whose GPU fails at the n-th call of a method of WebGPU, `times` times, in one of these ways:
// ?fault=lose destroys the devices; memory, validation and internal report such an error; hang never
// answers.
// faulty_gpu_worker.js?fault=lose&at=submit&n=3&times=1&when=after ; with at=idle it fails when the page
// says so.
import '/dist/worker.js';

const parameters = new URL(location.href).searchParams;
const at = parameters.get('at');
const when = parameters.get('when') ?? 'before';
const fault = parameters.get('fault') ?? 'lose';
let calls = 0;
let times = Number(parameters.get('times') ?? 1);
let n = Number(parameters.get('n') ?? 1);
const devices = [];
const page = new BroadcastChannel('faulty gpu');

const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function (...descriptor) {
  const device = await requestDevice.apply(this, descriptor);
  devices.push(device);
  return device;
};

/** As a browser does: to the newest device, after the call. */
const report = (error) => setTimeout(() => devices.at(-1).dispatchEvent(new GPUUncapturedErrorEvent('uncapturederror', { error })));

const FAULTS = {
  lose: () => devices.forEach((device) => device.destroy()),
  memory: () => report(new GPUOutOfMemoryError('injected')),
  validation: () => report(new GPUValidationError('injected')),
  internal: () => report(new GPUInternalError('injected')),
  hang: () => {},
};
const fail = () => {
  times--;
  calls = 0;
  page.postMessage({ failed: at });
  FAULTS[fault]();
};

/** After the load, so that a count means one place of one call: `?armed=0` waits for the page's word. */
let armed = parameters.get('armed') !== '0';
page.onmessage = ({ data }) => {
  if (data.arm) {
    armed = true;
    calls = 0;
    n = data.n ?? n;
  }
  if (data.fail) fail();
  if (data.count) page.postMessage({ calls });
};

const METHODS = {
  createBuffer: GPUDevice.prototype,
  writeBuffer: GPUQueue.prototype,
  submit: GPUQueue.prototype,
  mapAsync: GPUBuffer.prototype,
};
if (METHODS[at]) {
  const original = METHODS[at][at];
  METHODS[at][at] = function (...call) {
    const now = armed && ++calls === n && times > 0;
    if (now && when === 'before') fail();
    if (now && fault === 'hang') return new Promise(() => {});
    const result = original.apply(this, call);
    if (now && when === 'after') fail();
    // What could not be allocated cannot be used.
    if (now && fault === 'memory') result.destroy();
    return result;
  };
}
