// The way to a tail's server: a browser opens no TCP, so the page's own host passes packets on.

import { readTensors } from "./safetensors.ts";
import type { Tensors } from "./tensor.ts";

export interface Answer {
  readonly channels: number;
  readonly wait_ms: number;
  readonly decode_ms: number;
  readonly tail_ms: number;
  readonly outputs: Tensors;
}

const TIMES_BYTES = 16;

/** Throws an Error with the host's sentence where the tail's server did not answer. */
export async function askTail(relay: string, packet: Uint8Array): Promise<Answer> {
  const headers = { "Content-Type": "application/octet-stream" };
  const response = await fetch(relay, { method: "POST", headers, body: packet as BodyInit });
  if (!response.ok) throw new Error(await response.text());
  return readAnswer(new Uint8Array(await response.arrayBuffer()));
}

/** The body of an answer of docs/split-serving.md. */
export function readAnswer(body: Uint8Array): Answer {
  if (body.length < TIMES_BYTES) throw new Error("The answer of the tail's server ends within its first numbers.");
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  return {
    channels: view.getUint32(0, true),
    wait_ms: view.getFloat32(4, true),
    decode_ms: view.getFloat32(8, true),
    tail_ms: view.getFloat32(12, true),
    outputs: readTensors(body.subarray(TIMES_BYTES)),
  };
}
