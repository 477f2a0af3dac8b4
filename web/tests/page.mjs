// Opens the page in Chromium and asserts what people rely on:
//   node tests/page.mjs 'http://127.0.0.1:7400/#token=...'
// Needs a server with at least one run that has steps and timeline entries.
//   CHROMIUM     the browser; /usr/bin/chromium unless named
//   SCREENSHOTS  a folder for pictures; none are taken unless named
//   COMPONENT    a component to upload; unless named, bytes that must be refused
import assert from 'node:assert/strict';
import { PATIENCE_MS, browse, comesTrue, picture } from './browse.mjs';

// Columns of pixels between the axes that hold a line: axes and labels alone come to none of them.
const INKED_MIN = 20;

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
    await comesTrue(async () => (await inked(chart)) > INKED_MIN, `${title} is drawn`);
  }
  const loss = page.getByRole('img', { name: /^Training loss/ });
  const linear = await drawn(loss);
  await page.getByLabel('Logarithmic losses').check();
  await comesTrue(async () => (await drawn(loss)) !== linear, 'a logarithmic chart looks otherwise');
  await comesTrue(async () => (await inked(loss)) > INKED_MIN, 'a logarithmic chart is drawn');
  await page.getByLabel('Logarithmic losses').uncheck();
  await picture(page, 'run');
}

// How many columns of a chart's inner half hold a strong colour: a curve is coloured, the grid is grey.
function inked(chart) {
  return chart.locator('canvas').evaluate((canvas) => {
    const { width, height } = canvas;
    if (!width || !height) return 0;
    const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
    let columns = 0;
    for (let x = Math.floor(width / 4); x < (width * 3) / 4; x += 1) {
      for (let y = 0; y < height; y += 1) {
        const [r, g, b, a] = data.slice(4 * (y * width + x), 4 * (y * width + x) + 4);
        if (a > 64 && Math.max(r, g, b) - Math.min(r, g, b) > 48) { columns += 1; break; }
      }
    }
    return columns;
  });
}

function drawn(chart) {
  return chart.locator('canvas').evaluate((canvas) => canvas.toDataURL());
}

async function takesACommand(page) {
  const running = page.getByRole('button', { name: 'Pause' });
  const paused = page.getByRole('button', { name: 'Resume' });
  await running.or(paused).waitFor();
  const word = (await running.isVisible()) ? 'pause' : 'resume';
  await running.or(paused).click();
  await page.getByText(new RegExp(`Asked to ${word} \\(command \\d+\\)`)).waitFor();
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
  await verdict.waitFor({ timeout: PATIENCE_MS });
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
  await picture(page, 'dark');
}
