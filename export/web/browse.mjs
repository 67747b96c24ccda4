// Opens the page of a running `edgekit serve` in a headless Chromium and prints what it found, as JSON:
//
//   node browse.mjs ADDRESS [--chromium PATH] [--screenshot FILE.png] [--outputs] [--again] [--width PIXELS]
//
// --outputs adds what the golden input gives, in base64. --again opens the page a second time, so that
// its files come from the browser's cache.

import { parseArgs } from "node:util";
import puppeteer from "puppeteer-core";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    chromium: { type: "string", default: "/usr/bin/chromium" },
    screenshot: { type: "string" },
    outputs: { type: "boolean", default: false },
    again: { type: "boolean", default: false },
    width: { type: "string", default: "1180" },
    seconds: { type: "string", default: "300" },
  },
});
const timeout = 1000 * Number(values.seconds);

const browser = await puppeteer.launch({
  executablePath: values.chromium,
  headless: true,
  protocolTimeout: timeout,
  // A container's user is root and its shared memory small.
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
});
try {
  const page = await browser.newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  await page.setViewport({ width: Number(values.width), height: 900, deviceScaleFactor: 1 });
  let report = await opened(page);
  if (values.again) report = { ...(await opened(page)), first_visit: report };
  if (values.screenshot) await page.screenshot({ path: values.screenshot, fullPage: true });
  const outputs = values.outputs ? await page.evaluate(goldenOutputs) : undefined;
  process.stdout.write(`${JSON.stringify({ ...report, problems, ...(outputs && { outputs }) })}\n`);
} finally {
  await browser.close();
}

async function opened(page) {
  await page.goto(positionals[0], { timeout });
  await page.evaluate(() => globalThis.edgekit.ready);
  return page.evaluate(() => ({
    ...globalThis.edgekit.report,
    found: globalThis.edgekit.found(),
    said: document.getElementById("said").textContent,
  }));
}

/** Runs in the page: arrays travel as base64, which JSON takes. */
async function goldenOutputs() {
  const { calls } = globalThis.edgekit;
  const { outputs } = await calls.run(await calls.golden("input."));
  const encoded = Object.entries(outputs).map(async ([name, { dtype, shape, data }]) => {
    const address = await new Promise((resolve) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.readAsDataURL(new Blob([data]));
    });
    return [name, { dtype, shape, base64: address.slice(address.indexOf(",") + 1) }];
  });
  return Object.fromEntries(await Promise.all(encoded));
}
