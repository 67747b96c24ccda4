// Writes the page that `edgekit serve` opens to dist/: `npm run build`.

import { build } from "esbuild";
import { cp, mkdir, readFile, rm } from "node:fs/promises";

const runtime = new URL("./node_modules/onnxruntime-web/", import.meta.url);
const { version } = JSON.parse(await readFile(new URL("package.json", runtime), "utf8"));
const dist = new URL("./dist/", import.meta.url);

await rm(dist, { recursive: true, force: true });
await build({
  entryPoints: ["src/page.ts", "src/worker.ts"],
  outdir: "dist",
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  // The runtime's own module starts its threads from its own address, so that it stays a file beside ours.
  conditions: ["onnxruntime-web-use-extern-wasm"],
  define: { "process.env.ORT_VERSION": JSON.stringify(version) },
  legalComments: "none",
  logLevel: "warning",
});
// A folder named by its version may be cached for ever.
const folder = new URL(`ort-${version}/`, dist);
await mkdir(folder);
for (const name of ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"]) {
  await cp(new URL(`dist/${name}`, runtime), new URL(name, folder));
}
await cp(new URL("licences/onnxruntime-web.txt", import.meta.url), new URL("LICENSE.txt", folder));
for (const name of ["index.html", "style.css"]) {
  await cp(new URL(`src/${name}`, import.meta.url), new URL(name, dist));
}
