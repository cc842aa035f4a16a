import { defineConfig } from 'vite';

import { offline } from './build/offline-plugin.js';

export default defineConfig({
  base: './',
  plugins: [offline()],
  // The package brings a worker and a .wasm file that it finds beside itself.
  optimizeDeps: { exclude: ['tributary'] },
  worker: { format: 'es' },
  server: { fs: { allow: ['.', '../wasm'] } },
  build: {
    target: 'es2023',
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
