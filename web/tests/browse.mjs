// Opens Chromium for a test, and fails it if the browser complains of anything.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

/** How long a test waits for what must come. */
export const PATIENCE_MS = 180_000;

/** Waits until `holds` comes true; fails with `what` if it never does. */
export async function comesTrue(holds, what) {
  const until = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    assert(Date.now() < until, what);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Gives `test` a page of a new browser. */
export async function browse(test) {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  const browser = await chromium.launch({ executablePath, args: FLAGS });
  try {
    const page = await browser.newPage({ viewport: { width: 1440, height: 1000 } });
    // Nothing here is fast because it waits briefly: a slow machine gets its time.
    page.setDefaultTimeout(PATIENCE_MS);
    const complaints = [];
    page.on('pageerror', (error) => complaints.push(String(error)));
    // What the server refuses on purpose (an upload, a token, a run that is not there) the browser
    // reports as an error of its own.
    const refused = /status of (401|404|422)/;
    page.on('console', (line) => line.type() === 'error' && !refused.test(line.text()) && complaints.push(line.text()));
    await test(page);
    assert.deepEqual(complaints, [], 'the browser complains of nothing');
  } finally {
    await browser.close();
  }
}

/** Takes a picture into the folder SCREENSHOTS, if it is named. */
export async function picture(page, name) {
  const folder = process.env.SCREENSHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}
