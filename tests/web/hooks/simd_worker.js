// A worker of a browser without WebAssembly SIMD.
import '/dist/worker.js';

WebAssembly.validate = () => false;
