// Behind the scenes: where it runs, what a call costs, switches, and what went over the network.

import { announce, fill, h, icon } from '../dom';
import { MODALITIES, MODALITY_NAMES, type DeviceChoice, type Engine, type Modality } from '../engine';
import { bytes, count, milliseconds, plural } from '../format';
import type { Requests } from '../network';
import type { Offline } from '../offline';
import { isRecord, read, write } from '../store';
import { sparkline, stageChart } from './chart';

const DEVICES: readonly [DeviceChoice, string][] = [['auto', 'Auto'], ['webgpu', 'WebGPU'], ['wasm', 'CPU']];
const OFFLINE: Record<Offline, string> = {
  unsupported: 'Offline: not in this browser or mode',
  preparing: 'Offline: being prepared …',
  ready: 'Works offline from now on',
  failed: 'Offline: could not be prepared; reload to try again',
};

const isOpen = (value: unknown): value is { open: boolean } =>
  isRecord(value) && typeof value['open'] === 'boolean';

export class Panel {
  readonly element = h('section.panel', { 'aria-labelledby': 'panel-title' });
  readonly #engine: Engine;
  readonly #where = h('div.where', { 'aria-live': 'polite' });
  readonly #model = h('dl.model-facts');
  readonly #last = h('div.last-call');
  readonly #requests = h('p');
  readonly #offline = h('p.offline-state');
  #seen: Requests = { total: 0, elsewhere: 0 };

  constructor(engine: Engine) {
    this.#engine = engine;
    const details = h(
      'details.panel-details',
      { open: read('panel', isOpen, { open: true }).open },
      h('summary', {}, h('h2', { id: 'panel-title' }, 'Behind the scenes')),
      this.#where,
      this.#switches(),
      this.#last,
      this.#model,
      h('div.privacy', {}, icon('shield'), h('div', {}, h('p.privacy-title', {}, 'Nothing you do leaves this page'), this.#requests, this.#offline)),
      honest(),
    );
    details.addEventListener('toggle', () => write('panel', { open: details.open }));
    fill(this.element, details);
    engine.addEventListener('state', () => {
      this.#showModel();
      this.#showNetwork();
    });
    engine.addEventListener('ready', () => this.#showModel());
    engine.addEventListener('call', () => this.#showCall());
    this.#showModel();
    this.#showCall();
    this.showOffline('preparing');
  }

  /** The page's own requests; the model's are the worker's, and its progress tells of them. */
  showRequests(requests: Requests): void {
    this.#seen = requests;
    this.#showNetwork();
  }

  #showNetwork(): void {
    const { total, elsewhere } = this.#seen;
    const { fetched } = this.#engine;
    const size = [...fetched.values()].reduce((sum, each) => sum + each, 0);
    const model = fetched.size === 0 ? 'none for the model, which is kept here' : `${fetched.size} for the model (${bytes(size)})`;
    const forbidden = import.meta.env.PROD ? ' Its security policy forbids them.' : '';
    this.#requests.textContent =
      `Since you opened it: ${plural(total, 'request')} for the page and its pictures, ${model}. ` +
      `To other sites: ${elsewhere}.${forbidden}`;
  }

  showOffline(state: Offline): void {
    this.#offline.dataset['state'] = state;
    this.#offline.textContent = OFFLINE[state];
  }

  #switches(): HTMLElement {
    const modality = (name: Modality): HTMLElement => {
      const box = h('input', { type: 'checkbox', role: 'switch', id: `use-${name}`, checked: !this.#engine.hidden.includes(name) });
      box.addEventListener('change', () => {
        if (!this.#engine.setModality(name, box.checked)) {
          box.checked = true;
          announce('One of picture, text and graph stays on.');
        }
      });
      return h('label.switch', { for: `use-${name}` }, box, h('span', {}, MODALITY_NAMES[name]));
    };
    const device = ([value, label]: readonly [DeviceChoice, string]): HTMLElement => {
      const radio = h('input', { type: 'radio', name: 'device', value, checked: this.#engine.device === value });
      radio.addEventListener('change', () => void this.#engine.setDevice(value));
      return h('label.segment', {}, radio, h('span', {}, label));
    };
    return h(
      'div.switches',
      {},
      h('fieldset', {}, h('legend', {}, 'The model looks at'), h('div.switch-row', {}, ...MODALITIES.map(modality))),
      h('fieldset', {}, h('legend', {}, 'It runs on'), h('div.segments', {}, ...DEVICES.map(device))),
    );
  }

  #showModel(): void {
    const { phase, info, download } = this.#engine;
    if (phase !== 'ready' || info === null) {
      const state = phase === 'failed' ? 'Not running' : download === null ? 'Starting …' : `Loading, ${bytes(download.loaded)} of ${bytes(download.total)}`;
      fill(this.#where, h('p.where-name', { 'data-phase': phase }, state));
      return;
    }
    this.#showWhere();
    const facts: [string, string][] = [
      ['Model', `${info.architecture.toUpperCase()}, a language model with fused pictures, text and graph`],
      ['Parameters', count(info.parameters)],
      ['Size', `${bytes(info.bytes)}, ${info.dtype}`],
      ['Products', count(info.items)],
      ['Reads at most', plural(info.maxInputTokens, 'token')],
      ['Licence', info.license ?? 'not stated'],
    ];
    fill(this.#model, ...facts.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
  }

  #showWhere(): void {
    const { backend, fallback } = this.#engine;
    if (backend === null) return fill(this.#where, h('p.where-name', { 'data-phase': 'ready' }, 'Ready'));
    const reason = fallback ?? backend.fallbackReason;
    const name = backend.device === 'webgpu' ? 'WebGPU' : 'CPU (WebAssembly)';
    fill(
      this.#where,
      h('p.where-name', { 'data-phase': 'ready' }, name),
      backend.adapter === undefined || backend.adapter === '' ? null : h('p.fine', {}, backend.adapter),
      reason === undefined ? null : h('p.fine.fallback', {}, `Not on WebGPU: ${reason}`),
    );
  }

  #showCall(): void {
    const calls = this.#engine.calls.filter((call) => call.purpose === 'strip');
    const call = calls.at(-1);
    if (call === undefined) return fill(this.#last, h('p.fine', {}, 'The first answer is still to come.'));
    this.#showWhere();
    const { promptTokens, cachedTokens } = call.usage;
    const computed = promptTokens - cachedTokens;
    const reused = h('span.tokens-reused');
    reused.style.inlineSize = `${promptTokens === 0 ? 0 : (100 * cachedTokens) / promptTokens}%`;
    fill(
      this.#last,
      h('h3', {}, 'The last answer', h('span.total', {}, milliseconds(call.timings.totalMs))),
      stageChart(call),
      h('p.tokens-text', {}, h('span', {}, h('strong', {}, count(computed)), computed === 1 ? ' token computed' : ' tokens computed'), h('span', {}, h('strong', {}, count(cachedTokens)), ' reused')),
      h('div.tokens', { 'aria-hidden': 'true' }, reused),
      calls.length > 1 ? sparkline(calls) : null,
    );
  }
}

/** What this demo is and is not. */
function honest(): HTMLElement {
  return h(
    'div.honest',
    {},
    h('h3', {}, 'What to expect'),
    h('p', {}, 'The shop, its products and the shoppers it learned from are made up. The model is small and was trained from nothing on them.'),
    h('p', {}, 'Nearly all it knows is who bought what together (graph). Picture and text add little yet: switch them off and see. They are all a new product has.'),
  );
}
