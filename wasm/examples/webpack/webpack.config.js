export default {
  mode: 'production',
  entry: './src/main.js',
  // What webpack copies is found beside main.js, in whatever folder the page is served from.
  output: { publicPath: 'auto', clean: true },
  // The WebAssembly is fetched beside the script, so its size says nothing about the script's.
  performance: { hints: false },
};
