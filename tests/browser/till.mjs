// Hands and eyes at a node's till page for a test: node till.mjs FOLDER
// FOLDER has node_modules with playwright-core, and takes screenshots. Each line of standard input is a command, a JSON
// list; its answer is one line of JSON. Everything is found by role and name, as whoever uses a screen reader finds it.
//   ["open", TAB, URL, WIDTH, HEIGHT]   opens a tab of one browser
//   ["look", TAB]                       what the tab shows now
//   ["keys", TAB, KEY, …]               presses keys of a keyboard: a text is typed, "{Enter}" is that key
//   ["type", TAB, TEXT]                 types as fast as a person does
//   ["scan", TAB, CODE, …]              a scanner's keys: each code and Enter, without a pause
//   ["touch", TAB, NAME]                touches a button, and says how often this tab was touched since the last count
//   ["twice", TAB, NAME]                touches it twice, as fast as it goes
//   ["together", [TAB, NAME], …]        touches buttons of several tabs at the same time; one that goes meanwhile isn't
//   ["deafen", TAB]                     from now on it doesn't hear of open baskets
//   ["focus", TAB, ROLE, NAME]          gives it the focus
//   ["fill", TAB, NAME, TEXT]           writes into a field
//   ["value", TAB, NAME]                what stands in a field
//   ["count", TAB]                      touches since the last count
//   ["lose", TAB, METHOD, PATH]         the next such request reaches the node, and its answer is lost
//   ["answer", TAB, METHOD, PATH, STATUS, BODY]  the next such request doesn't reach the node: it is answered so
//   ["asked", TAB]                      bodies of requests that were answered so
//   ["reload", TAB]
//   ["seen", TAB, ROLE, NAME]           whether all of it is inside the window
//   ["size", TAB, WIDTH, HEIGHT]        and how wide and high the page wants to be
//   ["small", TAB]                      names of what can be touched and is smaller than a finger: 44 by 44
//   ["shot", TAB, NAME]                 a screenshot in FOLDER/NAME.png
//   ["report"]                          what the pages asked for, said and ran
// With TILL_SITE in the environment, files of the page come from that folder: a page is tried without a build of the program.
import { createRequire } from 'node:module';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';

const [folder] = process.argv.slice(2);
const site = process.env.TILL_SITE;
const { chromium } = createRequire(path.resolve(folder, 'package.json'))('playwright-core');

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
  ],
});
const context = await browser.newContext();
const report = { requests: [], console: [], errors: [], dialogs: 0, policy: '' };
context.on('request', (request) => report.requests.push(request.url()));

if (site) {
  await context.route(/\/till(\/.*)?$/, async (route) => {
    const name = new URL(route.request().url()).pathname.slice('/till/'.length) || 'index.html';
    const response = await route.fetch({ maxRedirects: 0 });
    await route.fulfill(response.ok() ? { response, body: fs.readFileSync(path.join(site, name)) } : { response });
  });
}

const tabs = new Map();
const page = (tab) => tabs.get(tab).page;
const button = (tab, name) => page(tab).getByRole('button', { name, exact: true });
const texts = (locator) => locator.evaluateAll((nodes) => nodes.map((node) => node.textContent.replace(/\s+/g, ' ').trim()));
const one = async (locator) => (await texts(locator))[0] ?? null;

const open = async (tab, url, width = 1280, height = 900) => {
  const opened = await context.newPage();
  await opened.setViewportSize({ width, height });
  opened.on('console', (message) => report.console.push(`${message.type()}: ${message.text()}`));
  opened.on('pageerror', (error) => report.errors.push(String(error)));
  opened.on('dialog', (dialog) => { report.dialogs += 1; dialog.accept(); });
  tabs.set(tab, { page: opened, touches: 0, asked: [] });
  const answer = await opened.goto(url);
  report.policy = answer.headers()['content-security-policy'] ?? '';
  return { address: opened.url() };
};

const look = async (tab) => {
  const here = page(tab);
  const list = (name) => texts(here.getByRole('list', { name, exact: true }).getByRole('listitem'));
  // Figures are outputs, which are statuses: each by its name.
  const figure = (name) => one(here.getByRole('status', { name, exact: true }));
  return {
    title: await here.title(),
    connections: await figure('Connections'),
    lines: await list('Lines'),
    codes: await list('Codes'),
    parts: await list('Parts of the payment'),
    held: await list('Other open baskets'),
    total: await figure('Total'),
    left: await figure('Left'),
    covered: await figure('Covered'),
    change: await figure('Change'),
    sold: await figure('Sold for'),
    safety: await figure('Safety of the last sale'),
    messages: await texts(here.getByRole('alert', { name: 'Messages' }).getByRole('paragraph')),
    question: await texts(here.getByRole('alertdialog').getByRole('listitem')),
    products: await texts(here.getByRole('region', { name: 'Products' }).getByRole('button')),
    buttons: (await here.getByRole('button').all()).length,
    images: await here.getByRole('img').count(),
    all: (await here.evaluate(() => document.body.innerText)).replace(/\s+/g, ' '),
    ran: await here.evaluate(() => globalThis.ran ?? null),
  };
};

const press = async (tab, key) => {
  const special = /^\{(.+)\}$/.exec(key);
  if (special) await page(tab).keyboard.press(special[1]);
  else await page(tab).keyboard.type(key);
};

const commands = {
  open,
  look,
  keys: async (tab, ...keys) => { for (const key of keys) await press(tab, key); return {}; },
  type: async (tab, text) => { await page(tab).keyboard.type(text, { delay: 90 }); return {}; },
  scan: async (tab, ...codes) => {
    for (const code of codes) { await press(tab, code); await press(tab, '{Enter}'); }
    return {};
  },
  touch: async (tab, name) => {
    await button(tab, name).click();
    tabs.get(tab).touches += 1;
    return { touches: tabs.get(tab).touches };
  },
  twice: async (tab, name) => { await button(tab, name).dblclick({ delay: 0 }); return {}; },
  together: async (...places) => {
    await Promise.allSettled(places.map(([tab, name]) => button(tab, name).click({ timeout: 5000 })));
    return {};
  },
  deafen: async (tab) => {
    await page(tab).route(/\/v1\/baskets$/, (route) => (route.request().method() === 'GET' ? undefined : route.fallback()));
    return {};
  },
  focus: async (tab, role, name) => { await page(tab).getByRole(role, { name, exact: true }).focus(); return {}; },
  fill: async (tab, name, text) => { await page(tab).getByRole('textbox', { name, exact: true }).fill(text); return {}; },
  value: async (tab, name) => ({ value: await page(tab).getByRole('textbox', { name, exact: true }).inputValue() }),
  count: async (tab) => {
    const { touches } = tabs.get(tab);
    tabs.get(tab).touches = 0;
    return { touches };
  },
  lose: async (tab, method, pattern) => {
    let lost = false;
    await page(tab).route(new RegExp(pattern), async (route) => {
      if (lost || route.request().method() !== method) return route.fallback();
      lost = true;
      await route.fetch();
      await route.abort('connectionreset');
    });
    return {};
  },
  answer: async (tab, method, pattern, status, body) => {
    let answered = false;
    await page(tab).route(new RegExp(pattern), async (route) => {
      if (answered || route.request().method() !== method) return route.fallback();
      answered = true;
      tabs.get(tab).asked.push(route.request().postDataJSON());
      await route.fulfill({ status, contentType: 'application/problem+json', json: body });
    });
    return {};
  },
  asked: async (tab) => tabs.get(tab).asked,
  reload: async (tab) => { await page(tab).reload(); return {}; },
  seen: async (tab, role, name) => {
    const box = await page(tab).getByRole(role, { name, exact: true }).boundingBox();
    const { width, height } = page(tab).viewportSize();
    const inside = box !== null && box.height > 0 && box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height;
    return { inside, box };
  },
  size: async (tab, width, height) => {
    await page(tab).setViewportSize({ width, height });
    return page(tab).evaluate(() => {
      const { scrollWidth, scrollHeight } = document.documentElement;
      return { width: scrollWidth, height: scrollHeight };
    });
  },
  small: async (tab) => {
    const found = [];
    for (const role of ['button', 'link', 'textbox']) {
      for (const target of await page(tab).getByRole(role).all()) {
        const box = await target.boundingBox();
        if (box && (box.height < 44 || box.width < 44)) found.push(`${role} ${(await target.textContent()).trim()}: ${box.width} by ${box.height}`);
      }
    }
    return found;
  },
  shot: async (tab, name) => { await page(tab).screenshot({ path: path.join(folder, `${name}.png`) }); return {}; },
  report: async () => report,
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const [command, ...rest] = JSON.parse(line);
  let answer;
  try {
    answer = await commands[command](...rest);
  } catch (error) {
    answer = { failed: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
