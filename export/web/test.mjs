// Builds the tests and runs them: `npm test`. Arguments are names of files in tests/ without their ending.

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { build } from "esbuild";

const named = process.argv.slice(2).map((name) => `${name}.test.ts`);
const files = readdirSync("tests").filter((name) => name.endsWith(".test.ts") && (!named.length || named.includes(name)));
await build({
  entryPoints: files.map((name) => `tests/${name}`),
  outdir: "build/tests",
  outExtension: { ".js": ".mjs" },
  bundle: true,
  platform: "node",
  format: "esm",
  logLevel: "warning",
});
const built = files.map((name) => `build/tests/${name.replace(/ts$/, "mjs")}`);
process.exitCode = spawnSync(process.execPath, ["--test", "--test-reporter=tap", ...built], { stdio: "inherit" }).status ?? 1;
