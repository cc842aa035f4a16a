// Name, search, and the ways to the studio, to what happens behind the scenes, and to the cart.

import { byId, fill, h, icon, s } from '../dom';
import { plural } from '../format';
import { themeButton } from '../theme';
import type { Page } from './parts';

function logo(): SVGElement {
  return s(
    'svg',
    { class: 'logo', viewBox: '0 0 64 64', 'aria-hidden': 'true', focusable: 'false' },
    s('path', { d: 'M14 10c0 19 18 13 18 44', class: 'logo-a' }),
    s('path', { d: 'M50 10c0 19-18 13-18 44', class: 'logo-b' }),
    s('path', { d: 'M32 9v46', class: 'logo-c' }),
  );
}

/** `search` hears every change of the words. */
export function header(page: Page, search: (words: string) => void): void {
  const field = h('input', {
    type: 'search',
    id: 'search',
    placeholder: 'Search: “striped mug”, “Elvika”, “rain”',
    'aria-label': 'Search the products',
    autocomplete: 'off',
    enterkeyhint: 'search',
    oninput: () => search(field.value),
  });
  const form = h(
    'form.search',
    { role: 'search', onsubmit: (event) => { event.preventDefault(); byId('main').focus(); } },
    icon('search'),
    field,
  );
  const count = h('span.badge', { 'aria-hidden': 'true' });
  const cart = h('a.icon-button.with-badge', { href: '#/cart', id: 'cart-link' }, icon('cart'), count);
  const showCart = (): void => {
    const inside = page.visit.cart.length;
    const label = inside === 0 ? 'Cart, empty' : `Cart, ${plural(inside, 'product')}`;
    cart.setAttribute('aria-label', label);
    cart.title = label;
    count.textContent = String(inside);
    count.hidden = inside === 0;
  };
  page.visit.addEventListener('change', showCart);
  showCart();
  fill(
    byId('top'),
    h('a.home', { href: './', 'aria-label': 'Tributary Shop, start page' }, logo(), h('span.home-name', {}, 'Tributary ', h('span', {}, 'Shop'))),
    form,
    h(
      'nav.top-actions',
      { 'aria-label': 'Shop' },
      h('a.text-button.studio-link', { href: '#/studio', 'aria-label': 'Your own product' }, icon('brush'), h('span', {}, 'Your own product')),
      h('a.icon-button.panel-link', { href: '#/panel', 'aria-label': 'Your visit, and behind the scenes', title: 'Your visit, and behind the scenes' }, icon('engine')),
      themeButton(),
      cart,
    ),
  );
}
