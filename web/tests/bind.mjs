// Uploads a component through the page, binds it to a run that is training, sees its decisions, and
// stops the run:
//   node tests/bind.mjs 'http://127.0.0.1:7400/#token=...' RUN PLUGIN
//   COMPONENT    the component's file
//   CHROMIUM     the browser; /usr/bin/chromium unless named
//   SCREENSHOTS  a folder for pictures; none are taken unless named
import assert from 'node:assert/strict';
import { browse, picture } from './browse.mjs';

const [address, run, plugin] = process.argv.slice(2);
const component = process.env.COMPONENT;
assert(address && run && plugin && component, 'give an address, a run, a plugin and COMPONENT');

await browse(async (page) => {
  await page.goto(address);
  await page.getByRole('row').nth(1).getByRole('link').waitFor();

  await page.getByRole('link', { name: 'Plugins' }).click();
  await page.locator('input[type=file]').setInputFiles(component);
  const verdict = page.getByRole('status', { name: 'Verdict' });
  await verdict.waitFor({ timeout: 120_000 });
  assert.match(await verdict.getByRole('heading').innerText(), /is installed$/);
  await picture(page, 'uploaded');

  await page.getByRole('link', { name: 'Runs' }).click();
  await page.getByRole('link', { name: run, exact: true }).click();
  const bindings = page.getByRole('region', { name: 'Bindings' });
  await bindings.getByText('Bind a plugin', { exact: true }).click();
  const choice = bindings.locator('option', { hasText: plugin });
  await choice.waitFor({ state: 'attached' });
  await bindings.getByLabel('Plugin', { exact: false }).first().selectOption(await choice.getAttribute('value'));
  await bindings.getByRole('radio', { name: /active/ }).check();
  await bindings.getByRole('button', { name: 'Bind' }).click();
  await bindings.getByText(/Asked to bind \(command \d+\)/).waitFor();
  await bindings.getByRole('button', { name: `Release ${plugin}` }).waitFor();

  const timeline = page.getByRole('region', { name: 'Timeline' });
  await timeline.getByText(new RegExp(`^${plugin} moved the mixture`)).first().waitFor();
  await picture(page, 'decides');

  await page.getByRole('button', { name: 'Stop…' }).click();
  await page.getByRole('button', { name: 'Stop for good' }).click();
  await page.getByText(/^stopped by/).first().waitFor();
  await picture(page, 'stopped');
});
console.log('the plugin was uploaded, bound and seen to decide');
