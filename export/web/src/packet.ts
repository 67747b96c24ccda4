// A packet: what a head sends of one image; docs/split-packets.md.

import { crc32 } from "./crc32.ts";
import type { Placement } from "./letterbox.ts";

const MAGIC = [0xee, 0x4b];
const VERSION = 1;
const PLACED = 0x80;
const HASH_BYTES = 4;

export interface Coded {
  /** How a packet names the way of coding. */
  readonly codec: number;
  /** SHA-256 in hex of what head and tail share. */
  readonly hash: string;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  readonly payload: Uint8Array;
}

export function writePacket(coded: Coded, placement: Placement | null = null): Uint8Array {
  const { channels, height, width, payload } = coded;
  const head = [...MAGIC, VERSION, coded.codec | (placement ? PLACED : 0), ...hashBytes(coded.hash)];
  const numbers = [channels, height, width, payload.length, ...(placement ? placedNumbers(placement) : [])];
  head.push(...numbers.flatMap(leb128), ...word(crc32(payload)));
  head.push(...word(crc32(Uint8Array.from(head))));
  const packet = new Uint8Array(head.length + payload.length);
  packet.set(head);
  packet.set(payload, head.length);
  return packet;
}

/** Of a whole packet. Throws an Error with a sentence for one that is damaged or of another head. */
export function readPacket(packet: Uint8Array, codec: number, hash: string): Coded {
  const damaged = () => new Error("The packet is damaged: it is none that this head sends.");
  const start = [...MAGIC, VERSION];
  if (start.some((byte, at) => packet[at] !== byte) || (packet[3]! & ~PLACED) !== codec) throw damaged();
  if (hashBytes(hash).some((byte, at) => packet[4 + at] !== byte)) throw damaged();
  let at = 4 + HASH_BYTES;
  const take = () => {
    let number = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = packet[at++];
      if (byte === undefined || scale > 2 ** 28) throw damaged();
      number += (byte & 127) * scale;
      if (byte < 128) return number;
    }
  };
  const [channels, height, width, size] = [take(), take(), take(), take()] as const;
  if (packet[3]! & PLACED) for (let number = 0; number < 6; number++) take();
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const payload = packet.subarray(at + 8);
  const sound =
    payload.length === size &&
    view.getUint32(at, true) === crc32(payload) &&
    view.getUint32(at + 4, true) === crc32(packet.subarray(0, at + 4));
  if (!sound) throw damaged();
  return { codec, hash, channels, height, width, payload };
}

function hashBytes(hash: string): number[] {
  return Array.from({ length: HASH_BYTES }, (_, at) => Number.parseInt(hash.slice(2 * at, 2 * at + 2), 16));
}

function placedNumbers({ width, height, left, top, innerWidth, innerHeight }: Placement): number[] {
  return [height, width, zigzag(top), zigzag(left), innerHeight, innerWidth];
}

function zigzag(number: number): number {
  return number >= 0 ? 2 * number : -2 * number - 1;
}

function leb128(number: number): number[] {
  const bytes: number[] = [];
  for (; number >= 128; number = Math.floor(number / 128)) bytes.push((number % 128) | 128);
  return [...bytes, number];
}

function word(number: number): number[] {
  return [number & 255, (number >>> 8) & 255, (number >>> 16) & 255, number >>> 24];
}
