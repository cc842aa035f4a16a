// A worker whose GPU devices are destroyed at the n-th call of a method of WebGPU, `times` times.
// lossy_worker.js?at=submit&n=3&times=1&when=after ; with at=idle it destroys when the page says so.
import '/dist/worker.js';

const parameters = new URL(location.href).searchParams;
const at = parameters.get('at');
const when = parameters.get('when') ?? 'before';
let calls = 0;
let times = Number(parameters.get('times') ?? 1);
const n = Number(parameters.get('n') ?? 1);
const devices = [];
const counted = new BroadcastChannel('lossy');

const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function (...descriptor) {
  const device = await requestDevice.apply(this, descriptor);
  devices.push(device);
  return device;
};

const destroy = () => {
  times--;
  calls = 0;
  counted.postMessage({ destroyed: at });
  for (const device of devices) device.destroy();
};

/** After the load, so that a count means one place of one call: `?armed=0` waits for the page's word. */
let armed = parameters.get('armed') !== '0';
counted.onmessage = ({ data }) => {
  if (data.arm) armed = true;
  if (data.destroy) destroy();
};

const METHODS = {
  writeBuffer: GPUQueue.prototype,
  submit: GPUQueue.prototype,
  mapAsync: GPUBuffer.prototype,
};
if (METHODS[at]) {
  const original = METHODS[at][at];
  METHODS[at][at] = function (...call) {
    const now = armed && times > 0 && ++calls === n;
    if (now && when === 'before') destroy();
    const result = original.apply(this, call);
    if (now && when === 'after') destroy();
    return result;
  };
}
