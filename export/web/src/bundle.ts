// A bundle's files, fetched and checked against the hashes of its manifest.

import { type Manifest, readManifest } from "./manifest.ts";
import { type Plan, readPlan } from "./plan.ts";
import { readTensors } from "./safetensors.ts";
import type { Tensors } from "./tensor.ts";

export class Bundle {
  private constructor(private readonly address: string, readonly manifest: Manifest, readonly plan: Plan | null) {}

  /** `address` ends with a slash. Throws an Error with a sentence. */
  static async open(address: string): Promise<Bundle> {
    const text = await (await fetched(`${address}manifest.json`)).text();
    const manifest = readManifest(text);
    const bundle = new Bundle(address, manifest, null);
    if (manifest.files["plan.json"] === undefined) return bundle;
    const plan = readPlan(new TextDecoder().decode(await bundle.file("plan.json")));
    return new Bundle(address, manifest, plan);
  }

  /** Throws an Error for a file that is not the one that was exported. */
  async file(name: string): Promise<Uint8Array> {
    const digest = this.manifest.files[name];
    if (digest === undefined) throw new Error(`The bundle has no file '${name}'; export the model again.`);
    // The hash in the address lets the browser keep a file for as long as it is this one.
    const response = await fetched(`${this.address}${name}?sha256=${digest}`);
    const bytes = new Uint8Array(await response.arrayBuffer());
    if ((await sha256(bytes)) !== digest) {
      throw new Error(`${name} is not the file that was exported; export the model again.`);
    }
    return bytes;
  }

  async golden(prefix: "input." | "output." | "part."): Promise<Tensors> {
    return readTensors(await this.file("golden.safetensors"), prefix);
  }
}

async function fetched(address: string): Promise<Response> {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address} cannot be read (${response.status}).`);
  return response;
}

export async function sha256(bytes: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as BufferSource));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
