// A tab as a user has one. Playwright keeps its own pages visible for good, so that they are neither
// throttled nor frozen; this one is opened behind its back.

/** @param {import('playwright-core').Browser} browser */
export async function userTab(browser, url) {
  const session = await browser.newBrowserCDPSession();
  const { targetId } = await session.send('Target.createTarget', { url });
  const { sessionId } = await session.send('Target.attachToTarget', { targetId, flatten: false });
  const waiting = new Map();
  session.on('Target.receivedMessageFromTarget', ({ message }) => {
    const { id, ...reply } = JSON.parse(message);
    waiting.get(id)?.(reply);
  });
  let last = 0;
  const send = async (method, params) => {
    const id = ++last;
    const answered = new Promise((resolve) => waiting.set(id, resolve));
    await session.send('Target.sendMessageToTarget', { sessionId, message: JSON.stringify({ id, method, params }) });
    const { result, error } = await answered;
    const thrown = error ?? result.exceptionDetails;
    if (thrown) throw new Error(`${method}: ${JSON.stringify(thrown)}`);
    return result;
  };
  const evaluate = async (body, argument) => {
    const expression = `(${body})(${JSON.stringify(argument)})`;
    return (await send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true })).result.value;
  };
  // Until the address has taken the place of the empty page, whose end is an error of the call.
  while (!await evaluate(() => window.tributary !== undefined).catch(() => false)) await new Promise((resolve) => setTimeout(resolve, 50));
  await evaluate(async () => {
    await import('/hooks/page.js');
    let longest = { ms: 0, until: 0 };
    let last = performance.now();
    /** The longest time without a timer, and when it ended. */
    window.still = () => {
      const now = performance.now();
      if (now - last > longest.ms) longest = { ms: now - last, until: now };
      return longest;
    };
    setInterval(() => {
      window.still();
      last = performance.now();
    }, 20);
  });
  return {
    evaluate,
    /** Another tab comes to the front. */
    async hide() {
      const other = await session.send('Target.createTarget', { url: 'about:blank' });
      await session.send('Target.activateTarget', other);
      await evaluate(async () => {
        while (document.visibilityState !== 'hidden') await new Promise((resolve) => setTimeout(resolve, 50));
      });
    },
    freeze: () => send('Page.setWebLifecycleState', { state: 'frozen' }),
    resume: () => send('Page.setWebLifecycleState', { state: 'active' }),
    close: () => session.send('Target.closeTarget', { targetId }),
  };
}
