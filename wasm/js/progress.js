// Progress in the events of transformers.js, not more often than a screen can show.

/** @import {ProgressInfo} from './index.js' */

const EVERY_MS = 50;

export class Progress {
  #name;
  #report;
  /** @type {Record<string, { loaded: number, total: number }>} */
  #files = {};
  /** Files with news that were not told yet. @type {Set<string>} */
  #news = new Set();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {string} name @param {(event: ProgressInfo) => void} report */
  constructor(name, report) {
    this.#name = name;
    this.#report = report;
  }

  /** @param {'initiate' | 'download' | 'done'} status @param {string} file */
  emit(status, file) {
    this.#report({ status, name: this.#name, file });
  }

  /** @param {string} file @param {number} total */
  expect(file, total) {
    this.#files[file] = { loaded: 0, total };
  }

  /** @param {string} file @param {number} bytes Negative when a file starts over. */
  add(file, bytes) {
    const state = this.#files[file];
    state.loaded += bytes;
    this.#news.add(file);
    // The end of a file comes before its `done`; what comes before a stall is told, too, a moment later.
    if (state.loaded >= state.total) this.#tell();
    else this.#timer ??= setTimeout(() => this.#tell(), EVERY_MS);
  }

  #tell() {
    this.close();
    const name = this.#name;
    for (const file of this.#news) {
      const state = this.#files[file];
      this.#report({ status: 'progress', name, file, progress: percent(state), ...state });
    }
    this.#news.clear();
    const sum = { loaded: 0, total: 0 };
    for (const { loaded, total } of Object.values(this.#files)) {
      sum.loaded += loaded;
      sum.total += total;
    }
    const files = Object.fromEntries(Object.entries(this.#files).map(([file, state]) => [file, { ...state }]));
    this.#report({ status: 'progress_total', name, progress: percent(sum), ...sum, files });
  }

  /** Nothing more is told. */
  close() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

/** @param {{ loaded: number, total: number }} state */
function percent({ loaded, total }) {
  return total ? (100 * loaded) / total : 100;
}
