// Light, dark, or as the system says.

import { fill, h, icon } from './dom';
import { read, write } from './store';

type Theme = 'system' | 'light' | 'dark';
const THEMES = ['system', 'light', 'dark'] as const;
const NAMES = { system: 'as the system', light: 'light', dark: 'dark' } as const;
const ICONS = { system: 'contrast', light: 'sun', dark: 'moon' } as const;

const isTheme = (value: unknown): value is Theme => THEMES.some((theme) => theme === value);

export function themeButton(): HTMLButtonElement {
  let theme: Theme = read('theme', isTheme, 'system');
  const button = h('button.icon-button', { type: 'button' });
  const show = (): void => {
    document.documentElement.dataset['theme'] = theme;
    const label = `Colours: ${NAMES[theme]}`;
    button.setAttribute('aria-label', label);
    button.title = label;
    fill(button, icon(ICONS[theme]));
  };
  button.addEventListener('click', () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? 'system';
    write('theme', theme);
    show();
  });
  show();
  return button;
}
