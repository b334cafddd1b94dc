// A browser that looks at a node's page for a test: node eyes.mjs FOLDER URL
// FOLDER has node_modules with playwright-core, and takes screenshots. Each line of standard input is a command; its
// answer is one line of JSON. Everything is found by role and name, as whoever uses a screen reader finds it.
//   look              what the page shows now
//   shot WIDTH NAME   a screenshot at that width in FOLDER/NAME.png, and how wide the page wants to be
//   report            what the page asked for, said and ran since it was opened
import { createRequire } from 'node:module';
import path from 'node:path';
import readline from 'node:readline';

const [folder, url] = process.argv.slice(2);
const { chromium } = createRequire(path.resolve(folder, 'package.json'))('playwright-core');

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
  ],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
const page = await context.newPage();

const report = { requests: [], console: [], errors: [], dialogs: 0, navigations: 0, policy: '' };
context.on('request', (request) => report.requests.push(request.url()));
page.on('console', (message) => report.console.push(`${message.type()}: ${message.text()}`));
page.on('pageerror', (error) => report.errors.push(String(error)));
page.on('dialog', (dialog) => { report.dialogs += 1; dialog.dismiss(); });
page.on('framenavigated', () => { report.navigations += 1; });
const answer = await page.goto(url);
report.policy = answer.headers()['content-security-policy'] ?? '';
// Opened: from here on nothing navigates.
report.navigations = 0;

const texts = (locator) => locator.evaluateAll((nodes) => nodes.map((node) => node.textContent.trim()));

const table = async (region) => {
  const rows = [];
  for (const row of await page.getByRole('region', { name: region, exact: true }).getByRole('row').all()) {
    const cells = await texts(row.getByRole('cell'));
    if (cells.length) rows.push(cells);
  }
  return rows;
};

const look = async () => {
  const now = page.getByRole('region', { name: 'Now', exact: true });
  const [names, values] = [await texts(now.getByRole('term')), await texts(now.getByRole('definition'))];
  return {
    market: await texts(page.getByRole('heading', { level: 1 })),
    connection: await texts(page.getByRole('status')),
    leads: await texts(page.getByRole('link')),
    notices: await texts(page.getByRole('list', { name: 'Notices' }).getByRole('listitem')),
    figures: Object.fromEntries(names.map((name, index) => [name, values[index]])),
    members: await table('Members'),
    links: await table('Links'),
    ledger: await table('Ledger'),
    images: await page.getByRole('img').count(),
    ran: await page.evaluate(() => globalThis.ran ?? null),
  };
};

const shot = async (width, name) => {
  await page.setViewportSize({ width: Number(width), height: 900 });
  await page.screenshot({ path: path.join(folder, `${name}.png`), fullPage: true });
  return page.evaluate(() => ({ width: document.documentElement.scrollWidth }));
};

const commands = { look, shot, report: async () => report };
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [command, ...rest] = line.split(' ');
  process.stdout.write(`${JSON.stringify(await commands[command](...rest))}\n`);
}
await browser.close();
