// Two small charts: where the last call's time went, and how long the calls before it took.

import { h, s } from '../dom';
import type { Call } from '../engine';
import { milliseconds } from '../format';

const WIDTH = 300;
const ROW = 24;
const LABEL = 66;
const VALUE = 56;

interface Stage {
  name: string;
  meaning: string;
  ms: number;
}

/** The stages of a call; `rest` is what no stage claims. */
export function stages({ timings }: Call): Stage[] {
  const { queueMs, encodeMs, prefillMs, scoreMs, totalMs } = timings;
  const rest = Math.max(0, totalMs - encodeMs - prefillMs - scoreMs);
  return [
    { name: 'Queue', meaning: 'waiting for the call before', ms: queueMs },
    { name: 'Encode', meaning: 'your visit into a prompt', ms: encodeMs },
    { name: 'Prefill', meaning: 'the language model reads it', ms: prefillMs },
    { name: 'Score', meaning: 'all candidates against it', ms: scoreMs },
    { name: 'Rest', meaning: 'choosing and sorting', ms: rest },
  ];
}

export function stageChart(call: Call): Element {
  const parts = stages(call);
  const longest = Math.max(...parts.map((part) => part.ms), 0.001);
  const room = WIDTH - LABEL - VALUE;
  const rows = parts.flatMap(({ name, ms, meaning }, row) => {
    const y = row * ROW;
    const length = Math.max(1.5, (room * ms) / longest);
    return [
      s('text', { x: 0, y: y + 16, class: 'chart-label' }, name),
      s('rect', { x: LABEL, y: y + 5, width: length.toFixed(1), height: ROW - 10, rx: 3, class: `chart-bar stage-${row}` }, s('title', {}, `${name}: ${meaning}`)),
      s('text', { x: LABEL + length + 6, y: y + 16, class: 'chart-value' }, milliseconds(ms)),
    ];
  });
  const words = parts.map(({ name, ms, meaning }) => `${name} (${meaning}) ${milliseconds(ms)}`).join(', ');
  return s('svg', { class: 'chart', viewBox: `0 0 ${WIDTH} ${parts.length * ROW}`, role: 'img', 'aria-label': `Milliseconds by stage: ${words}` }, ...rows);
}

/** Total milliseconds of the last calls, oldest first. */
export function sparkline(calls: readonly Call[]): Element {
  const height = 44;
  const totals = calls.map((call) => call.timings.totalMs);
  const most = Math.max(...totals, 1);
  const step = WIDTH / Math.max(1, totals.length - 1);
  const points = totals.map((ms, i) => [i * step, height - 4 - ((height - 8) * ms) / most] as const);
  const line = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ');
  const last = points.at(-1) ?? [0, 0];
  const label = `The last ${totals.length} answers took ${totals.map(milliseconds).join(', ')}`;
  return h(
    'div.spark',
    {},
    s(
      'svg',
      { class: 'chart', viewBox: `-4 0 ${WIDTH + 8} ${height}`, role: 'img', 'aria-label': label },
      s('polyline', { points: `0,${height} ${line} ${last[0].toFixed(1)},${height}`, class: 'spark-area' }),
      s('polyline', { points: line, class: 'spark-line' }),
      s('circle', { cx: last[0].toFixed(1), cy: last[1].toFixed(1), r: 3, class: 'spark-dot' }),
    ),
    h('p.fine.spark-range', {}, h('span', {}, `last ${totals.length}`), h('span', {}, `longest ${milliseconds(Math.max(...totals))}`)),
  );
}
