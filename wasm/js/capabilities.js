// What this browser offers.

/** @import {Capabilities} from './index.js' */

/** @returns {Promise<Capabilities>} */
export async function getCapabilities() {
  const [gpu, storage] = await Promise.all([adapter().catch(() => null), estimate().catch(() => undefined)]);
  /** @type {Record<string, number>} */
  const limits = {};
  // Getters of the prototype: an object's own keys would be none.
  for (const name in gpu?.limits) {
    const value = gpu.limits[name];
    if (typeof value === 'number') limits[name] = value;
  }
  return {
    webgpu: gpu !== null,
    f16: gpu?.features.has('shader-f16') ?? false,
    subgroups: gpu?.features.has('subgroups') ?? false,
    limits,
    ...(storage && { storage }),
    crossOriginIsolated: globalThis.crossOriginIsolated ?? false,
  };
}

/** @returns {Promise<{ features: ReadonlySet<string>, limits: Record<string, unknown> } | null>} */
export async function adapter() {
  // The types of WebGPU are not in TypeScript's library everywhere.
  const gpu = /** @type {any} */ (globalThis.navigator)?.gpu;
  return (await gpu?.requestAdapter({ powerPreference: 'high-performance' })) ?? null;
}

export async function estimate() {
  const storage = globalThis.navigator?.storage;
  if (!storage?.estimate) return undefined;
  const [{ quota = 0, usage = 0 }, persisted] = await Promise.all([storage.estimate(), storage.persisted?.() ?? false]);
  return { quota, usage, persisted };
}
