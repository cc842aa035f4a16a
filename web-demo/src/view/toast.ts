// A short message at the edge of the page, with at most one thing to do about it.

import { byId, fill, h } from '../dom';

const SHOWN_MS = 7000;
const box = byId('toast');
let timer: ReturnType<typeof setTimeout> | undefined;

export function hideToast(): void {
  clearTimeout(timer);
  box.hidden = true;
}

export function toast(text: string, action?: { label: string; run: () => void }): void {
  clearTimeout(timer);
  const run = (): void => {
    hideToast();
    action?.run();
  };
  fill(
    box,
    h('span', {}, text),
    action === undefined ? null : h('button.text-button', { type: 'button', onclick: run }, action.label),
  );
  // An open dialog covers the rest of the page: the message goes where it can be seen and reached.
  (document.querySelector('dialog[open]') ?? document.body).append(box);
  box.hidden = false;
  timer = setTimeout(hideToast, SHOWN_MS);
}
