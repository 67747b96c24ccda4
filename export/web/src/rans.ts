// The coder of symbols, byte for byte that of edgekit/split/rans.py: rANS as CompressAI writes it.
//
// The state has up to 63 bits, held as two halves of 32: `high` below 2^31, both as plain numbers. All
// products and remainders stay below 2^53, where numbers are exact.

import { TOTAL, type Tables } from "./tables.ts";

const WORD = 2 ** 32;
/** The state starts at 2^31, and a decoder takes a word below it. */
const LOWER_BOUND = 2 ** 31;
/** A state of frequency * 2^47 or more gives a word away: its high half is frequency * 2^15 or more. */
const HIGH_LIMIT = 2 ** 15;
const DIGIT = 16;
const MOST_DIGITS = 9;

/** The stream of symbols, channel after channel of `plane` each, for the first channels of the tables. */
export function encode(tables: Tables, symbols: ArrayLike<number>, plane: number): Uint8Array {
  const channels = symbols.length / plane;
  const writer = new Writer();
  for (let channel = channels - 1; channel >= 0; channel--) {
    const ends = [...tables.lower_ends[channel]!, TOTAL];
    const offset = tables.offsets[channel]!;
    for (let at = (channel + 1) * plane - 1; at >= channel * plane; at--) writer.put(symbols[at]! - offset, ends);
  }
  return writer.stream();
}

/** The symbols of a whole stream. Throws an Error for one that these tables do not write. */
export function decode(tables: Tables, stream: Uint8Array, channels: number, plane: number): Int32Array {
  const reader = new Reader(stream);
  const symbols = new Int32Array(channels * plane);
  for (let channel = 0; channel < channels; channel++) {
    const ends = [...tables.lower_ends[channel]!, TOTAL];
    const offset = tables.offsets[channel]!;
    for (let at = channel * plane; at < (channel + 1) * plane; at++) symbols[at] = reader.take(ends) + offset;
  }
  reader.finish();
  return symbols;
}

class Writer {
  private high = 0;
  private low = LOWER_BOUND;
  private readonly words: number[] = [];

  put(value: number, ends: readonly number[]): void {
    const escape = ends.length - 2;
    const inside = value >= 0 && value < escape;
    if (!inside) this.putEscaped(value, escape);
    const entry = inside ? value : escape;
    const lower = ends[entry]!;
    const frequency = ends[entry + 1]! - lower;
    this.makeRoom(frequency);
    // state = floor(state / frequency) * 65536 + state mod frequency + lower, by long division
    const rest = (this.high % frequency) * WORD + this.low;
    const highQuotient = Math.floor(this.high / frequency);
    const lowQuotient = Math.floor(rest / frequency);
    this.high = highQuotient * TOTAL + Math.floor(lowQuotient / TOTAL);
    this.low = (lowQuotient % TOTAL) * TOTAL + (rest % frequency) + lower;
  }

  /** How many digits, then the digits, lowest first; written in reverse, as all is. */
  private putEscaped(value: number, escape: number): void {
    const raw = value < 0 ? -2 * value - 1 : 2 * (value - escape);
    const digits: number[] = [];
    for (let left = raw; left > 0; left = Math.floor(left / DIGIT)) digits.push(left % DIGIT);
    for (const digit of [digits.length, ...digits].reverse()) {
      this.makeRoom(TOTAL / DIGIT);
      this.high = this.high * DIGIT + Math.floor(this.low / (WORD / DIGIT));
      this.low = (this.low % (WORD / DIGIT)) * DIGIT + digit;
    }
  }

  private makeRoom(frequency: number): void {
    if (this.high < frequency * HIGH_LIMIT) return;
    this.words.push(this.low);
    this.low = this.high;
    this.high = 0;
  }

  stream(): Uint8Array {
    const words = [this.low, this.high, ...this.words.reverse()];
    const bytes = new DataView(new ArrayBuffer(4 * words.length));
    words.forEach((word, index) => bytes.setUint32(4 * index, word, true));
    return new Uint8Array(bytes.buffer);
  }
}

class Reader {
  private high: number;
  private low: number;
  private next = 8;
  private readonly view: DataView;

  constructor(private readonly bytes: Uint8Array) {
    if (bytes.length < 8) throw damaged();
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.low = this.view.getUint32(0, true);
    this.high = this.view.getUint32(4, true);
    if (this.high >= LOWER_BOUND || (this.high === 0 && this.low < LOWER_BOUND)) throw damaged();
  }

  take(ends: readonly number[]): number {
    this.refill();
    const place = this.low % TOTAL;
    const entry = entryOf(ends, place);
    const lower = ends[entry]!;
    const frequency = ends[entry + 1]! - lower;
    // state = frequency * (state >> 16) + place - lower
    const shifted = { high: Math.floor(this.high / TOTAL), low: (this.high % TOTAL) * TOTAL + Math.floor(this.low / TOTAL) };
    const low = shifted.low * frequency + place - lower;
    this.high = shifted.high * frequency + Math.floor(low / WORD);
    this.low = low % WORD;
    const escape = ends.length - 2;
    return entry === escape ? this.takeEscaped(escape) : entry;
  }

  private takeEscaped(escape: number): number {
    const count = this.takeDigit();
    if (count > MOST_DIGITS) throw damaged();
    let raw = 0;
    for (let index = 0; index < count; index++) raw += this.takeDigit() * DIGIT ** index;
    return raw % 2 ? -Math.floor(raw / 2) - 1 : raw / 2 + escape;
  }

  private takeDigit(): number {
    this.refill();
    const digit = this.low % DIGIT;
    this.low = Math.floor(this.low / DIGIT) + (this.high % DIGIT) * (WORD / DIGIT);
    this.high = Math.floor(this.high / DIGIT);
    return digit;
  }

  private refill(): void {
    if (this.high > 0 || this.low >= LOWER_BOUND) return;
    if (this.next + 4 > this.bytes.length) throw damaged();
    this.high = this.low;
    this.low = this.view.getUint32(this.next, true);
    this.next += 4;
  }

  finish(): void {
    if (this.high !== 0 || this.low !== LOWER_BOUND || this.next !== this.bytes.length) throw damaged();
  }
}

function entryOf(ends: readonly number[], place: number): number {
  let [low, high] = [0, ends.length - 1]; // ends[low] <= place < ends[high]
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (ends[middle]! <= place) low = middle;
    else high = middle;
  }
  return low;
}

function damaged(): Error {
  return new Error("The stream is none that these tables write.");
}
