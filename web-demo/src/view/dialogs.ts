// Opens the dialog of the address, closes the others, and gives the focus back.

import { byId } from '../dom';
import { current, leave, type Route } from '../router';
import { hideToast } from './toast';

/** The dialog that `route` opens. */
export function dialog(route: Exclude<Route['name'], 'shop'>, closed: () => void = () => {}): HTMLDialogElement {
  const element = byId<HTMLDialogElement>(`${route}-dialog`);
  element.addEventListener('close', () => {
    closed();
    // Not when the address leads to another one already.
    if (current().name === route) leave();
  });
  // A click on what is beside it closes it.
  element.addEventListener('click', (event) => {
    if (event.target !== element) return;
    const box = element.getBoundingClientRect();
    const inside =
      event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!inside) element.close();
  });
  return element;
}

/** Shows `wanted` alone; with null none. */
export function showOnly(wanted: HTMLDialogElement | null): void {
  if (wanted !== null) hideToast();
  if (wanted !== null && !wanted.open) {
    wanted.showModal();
    // Its heading says where one is; the first control, which is how to close it, does not.
    wanted.querySelector<HTMLElement>('h2[tabindex]')?.focus();
  }
  for (const other of document.querySelectorAll('dialog[open]')) {
    if (other !== wanted) (other as HTMLDialogElement).close();
  }
  if (wanted !== null) wanted.scrollTop = 0;
}
