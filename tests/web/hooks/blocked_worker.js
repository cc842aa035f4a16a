// A worker where every store refuses, as with cookies blocked.
import '/dist/worker.js';

const refuse = () => Promise.reject(new DOMException('blocked', 'SecurityError'));
StorageManager.prototype.getDirectory = refuse;
CacheStorage.prototype.open = refuse;
