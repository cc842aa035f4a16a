// A worker whose WebAssembly traps; see trap.js.
import './trap.js';
import '/dist/worker.js';
