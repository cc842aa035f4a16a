// Puts the page together.

import { Catalogue } from './catalogue';
import { byId, fill, h } from './dom';
import { Engine, problem } from './engine';
import { watchRequests } from './network';
import { keepForOffline } from './offline';
import { OwnProducts } from './own';
import { pictures } from './pictures';
import { Recommendations } from './recommendations';
import { current, dispatchRoute, leave, onRoute, type Route } from './router';
import { Visit } from './visit';
import { CartView } from './view/cart';
import { dialog, showOnly } from './view/dialogs';
import { Grid } from './view/grid';
import { header } from './view/header';
import { Panel } from './view/panel';
import { closeButton, type Page } from './view/parts';
import { ProductView } from './view/product';
import { Strip } from './view/strip';
import { Studio } from './view/studio';
import { Timeline } from './view/timeline';
import { toast } from './view/toast';

const MODEL = new URL('./model/', document.baseURI);
const WIDE = matchMedia('(min-width: 1080px)');

export async function start(): Promise<void> {
  // For the tests, which have no GPU: WebGPU on the processor.
  const software = new URLSearchParams(location.search).has('software-adapter');
  const visit = new Visit();
  const catalogue = new Catalogue();
  const own = new OwnProducts();
  const engine = new Engine(MODEL, own, software);
  const recommendations = new Recommendations(engine, visit, catalogue);
  const page: Page = { catalogue, visit, picture: pictures(own), toast };

  const grid = new Grid(page);
  header(page, (words) => grid.search(words));
  new Strip(page, engine, recommendations);
  const timeline = new Timeline(page);
  const panel = new Panel(engine);
  foot();

  const ownChanged = (): void => {
    catalogue.setOwn(own.products);
    grid.show();
    void recommendations.refresh();
  };
  const removeOwn = async (id: string): Promise<void> => {
    own.remove(id);
    catalogue.setOwn(own.products);
    visit.forget(id);
    grid.show();
    try {
      await engine.keep(catalogue.bundled.map((item) => item.id));
      await recommendations.refresh();
    } catch (error) {
      toast(`${problem(error).detail} Reload the page to be rid of it.`);
    }
  };
  const refocus = (id: string): void => {
    if (document.activeElement === document.body) (grid.link(id) ?? byId('main')).focus();
  };
  const product = new ProductView(page, engine, recommendations, refocus, (item) => void removeOwn(item.id));
  const cart = new CartView(page);
  const studio = new Studio(page, engine, own, recommendations, ownChanged);
  const aside = sides(timeline.element, panel.element);

  onRoute((route: Route) => {
    switch (route.name) {
      case 'item': {
        const item = catalogue.get(route.id);
        if (item === undefined) {
          toast('This shop has no such product.');
          return leave();
        }
        product.show(item);
        return showOnly(product.dialog);
      }
      case 'cart':
        return showOnly(cart.dialog);
      case 'studio':
        studio.show();
        return showOnly(studio.dialog);
      case 'panel':
        if (aside.show()) return;
        byId('side').scrollIntoView({ block: 'nearest' });
        return leave();
      default:
        return showOnly(null);
    }
  });
  watchRequests((requests) => panel.showRequests(requests));

  const open = async (): Promise<void> => {
    grid.skeleton();
    try {
      await Promise.all([catalogue.load(MODEL), own.load()]);
    } catch (error) {
      return grid.fail(error instanceof Error ? error.message : String(error), () => void open());
    }
    catalogue.setOwn(own.products);
    grid.show();
    timeline.show();
    cart.show();
    if (current().name !== 'shop') dispatchRoute();
    await engine.load();
    // After the model, so that the first visit's bandwidth is the model's.
    await keepForOffline((state) => panel.showOffline(state));
  };
  await open();
}

/** The visit and the panel: beside the products where there is room, else in a drawer. */
function sides(...sections: HTMLElement[]): { show: () => boolean } {
  const drawer = dialog('panel');
  const head = h('div.drawer-head', {}, h('p.drawer-title', {}, 'You and the model'), closeButton('Close'));
  const place = (): void => {
    if (WIDE.matches) {
      if (drawer.open) drawer.close();
      fill(byId('side'), ...sections);
    } else {
      fill(drawer, head, ...sections);
    }
    byId('side').hidden = !WIDE.matches;
  };
  WIDE.addEventListener('change', place);
  place();
  return {
    show: () => {
      if (!WIDE.matches) showOnly(drawer);
      return !WIDE.matches;
    },
  };
}

function foot(): void {
  fill(
    byId('foot'),
    h('p', {}, 'A demonstration of the package “tributary”. Products, brands and prices are made up; pictures are drawn by the project. Nothing is for sale.'),
  );
}
