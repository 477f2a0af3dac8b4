// Opens the page in Chromium and asserts what people rely on:
//   node tests/page.mjs 'http://127.0.0.1:7400/#token=...'
// Needs a server with at least one run that has steps and timeline entries.
//   CHROMIUM     the browser; /usr/bin/chromium unless named
//   SCREENSHOTS  a folder for pictures; none are taken unless named
//   COMPONENT    a component to upload; unless named, bytes that must be refused
import assert from 'node:assert/strict';
import { browse, picture } from './browse.mjs';

const address = process.argv[2];
assert(address, 'give the address that the server printed');

await browse(async (page) => {
  await listsRuns(page);
  await showsOneRun(page);
  await takesACommand(page);
  await explainsAnAddressThatNamesNothing(page);
  await takesATokenInAnOpenTab(page);
  await showsAVerdict(page);
  await looksDark(page);
});
console.log('the page is well');

async function listsRuns(page) {
  await page.goto(address);
  await page.getByRole('row').nth(1).getByRole('link').waitFor();
  assert(!page.url().includes('token'), 'the token leaves the address');
  await picture(page, 'runs');
}

async function showsOneRun(page) {
  await page.getByRole('row').nth(1).getByRole('link').click();
  await page.getByText('live', { exact: true }).waitFor();
  const timeline = page.getByRole('region', { name: 'Timeline' });
  await timeline.getByRole('listitem').first().waitFor();
  for (const title of ['Training loss', 'Loss per domain', 'Mixture drawn']) {
    const chart = page.getByRole('img', { name: new RegExp(`^${title}, by step. At step`) });
    await chart.waitFor();
    assert((await colours(chart)) > 20, `${title} is drawn`);
  }
  await page.getByLabel('Logarithmic losses').check();
  const loss = page.getByRole('img', { name: /^Training loss/ });
  await loss.locator('canvas').waitFor();
  await page.waitForTimeout(300);
  assert((await colours(loss)) > 20, 'a logarithmic chart is drawn');
  await page.getByLabel('Logarithmic losses').uncheck();
  await page.waitForTimeout(300);
  await picture(page, 'run');
}

// How many different opaque or half-opaque colours a chart's canvas holds: a blank one has one.
function colours(chart) {
  return chart.locator('canvas').evaluate((canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Set();
    for (let i = 0; i < data.length; i += 4) seen.add(data.slice(i, i + 4).join());
    return seen.size;
  });
}

async function takesACommand(page) {
  const pause = page.getByRole('button', { name: 'Pause' });
  if (!(await pause.isVisible()) || (await pause.isDisabled())) return; // The run is over or paused.
  await pause.click();
  await page.getByText(/Asked to pause \(command \d+\)/).waitFor();
}

async function explainsAnAddressThatNamesNothing(page) {
  const turn = (hash) => page.evaluate((hash) => { location.hash = hash; }, hash);
  await turn('#/runs/%zz');
  await page.getByText('This address names no run').waitFor();
  await turn('#/runs/nothing');
  await page.getByText('no run has the id nothing').waitFor();
  await turn('#/');
  await page.getByRole('row').nth(1).waitFor();
}

async function takesATokenInAnOpenTab(page) {
  const paste = (token) => page.evaluate((token) => { location.hash = `token=${token}`; }, token);
  await paste('0123456789abcdef0123456789abcdee');
  await page.getByText("this is not the running server's token").waitFor();
  assert(!page.url().includes('token'), 'a pasted token leaves the address');
  await paste(new URL(address).hash.replace('#token=', ''));
  await page.getByText('Read only').waitFor({ state: 'hidden' });
  assert(!page.url().includes('token'), 'a pasted token leaves the address');
}

async function showsAVerdict(page) {
  await page.getByRole('link', { name: 'Plugins' }).click();
  const file = process.env.COMPONENT ?? {
    name: 'broken.wasm', mimeType: 'application/wasm', buffer: Buffer.from('this is no component'),
  };
  await page.locator('input[type=file]').setInputFiles(file);
  const verdict = page.getByRole('status', { name: 'Verdict' });
  await verdict.waitFor({ timeout: 120_000 });
  const heading = await verdict.getByRole('heading').innerText();
  assert.match(heading, process.env.COMPONENT ? /is installed$/ : /was refused$/);
  assert((await verdict.getByRole('listitem').count()) > 0, 'the verdict names its checks');
  await picture(page, 'plugins');
}

async function looksDark(page) {
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.getByRole('link', { name: 'Runs' }).click();
  await page.getByRole('row').nth(1).getByRole('link').click();
  await page.getByRole('img', { name: /^Training loss, by step. At step/ }).locator('canvas').waitFor();
  await page.waitForTimeout(500);
  await picture(page, 'dark');
}
