// A worker of a browser without WebGPU.
import '/dist/worker.js';

Object.defineProperty(navigator, 'gpu', { value: undefined });
