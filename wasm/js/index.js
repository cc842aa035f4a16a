// The public interface; index.d.ts documents it. Importing it does nothing, so it is safe on servers.

export { getCapabilities } from './capabilities.js';
export { TributaryError } from './errors.js';
export { models } from './models.js';
export { Recommender } from './recommender.js';
