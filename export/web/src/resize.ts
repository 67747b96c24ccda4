// Pictures made smaller or larger as Pillow does it (BILINEAR with reducing_gap 3): a network sees the same
// pixels here as in `edgekit run`. Rows are scaled before columns, as Pillow has always done; version 13
// begins with the columns of some tall pictures, which changes last bits.

/** RGB, 0 to 255, H W 3. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

const REDUCING_GAP = 3;
const PRECISION_BITS = 22;
const COLOURS = 3;

/** Of a canvas: RGBA without its alpha. */
export function withoutAlpha(rgba: ArrayLike<number>, width: number, height: number): Pixels {
  const data = new Uint8Array(width * height * COLOURS);
  for (let from = 0, to = 0; to < data.length; from += 4) {
    data[to++] = rgba[from]!;
    data[to++] = rgba[from + 1]!;
    data[to++] = rgba[from + 2]!;
  }
  return { width, height, data };
}

export function resized(picture: Pixels, width: number, height: number): Pixels {
  if (picture.width === width && picture.height === height) return picture;
  const across = Math.max(1, Math.trunc(picture.width / width / REDUCING_GAP));
  const down = Math.max(1, Math.trunc(picture.height / height / REDUCING_GAP));
  const reduced = across > 1 || down > 1 ? boxReduced(picture, across, down) : picture;
  const columns = weights(picture.width / across, reduced.width, width);
  const rows = weights(picture.height / down, reduced.height, height);
  const narrow = reduced.width === width && picture.width === width ? reduced : scaledAcross(reduced, columns);
  return narrow.height === height && picture.height === height ? narrow : scaledDown(narrow, rows);
}

/** For one output pixel: the first input pixel that counts, and the weights from there on, as integers. */
interface Weight {
  readonly first: number;
  readonly shares: Int32Array;
}

/** `span`: how much of the input the output shows, which need not be whole; `size`: its pixels. */
function weights(span: number, size: number, into: number): Weight[] {
  const scale = span / into;
  const support = Math.max(scale, 1);
  return Array.from({ length: into }, (_, at) => {
    const centre = (at + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(size, Math.trunc(centre + support + 0.5));
    const shares = Array.from({ length: end - first }, (__, offset) =>
      Math.max(0, 1 - Math.abs((offset + first - centre + 0.5) / support)),
    );
    const sum = shares.reduce((total, share) => total + share, 0);
    const whole = shares.map((share) => Math.trunc(0.5 + (share / sum) * 2 ** PRECISION_BITS));
    return { first, shares: Int32Array.from(whole) };
  });
}

function scaledAcross(picture: Pixels, columns: readonly Weight[]): Pixels {
  const { width, height, data } = picture;
  const out = new Uint8Array(columns.length * height * COLOURS);
  let to = 0;
  for (let y = 0; y < height; y++) {
    for (const { first, shares } of columns) {
      const from = (y * width + first) * COLOURS;
      for (let colour = 0; colour < COLOURS; colour++) out[to++] = weighted(data, from + colour, COLOURS, shares);
    }
  }
  return { width: columns.length, height, data: out };
}

function scaledDown(picture: Pixels, rows: readonly Weight[]): Pixels {
  const { width, data } = picture;
  const stride = width * COLOURS;
  const out = new Uint8Array(rows.length * stride);
  let to = 0;
  for (const { first, shares } of rows) {
    for (let column = 0; column < stride; column++) out[to++] = weighted(data, first * stride + column, stride, shares);
  }
  return { width, height: rows.length, data: out };
}

function weighted(data: Uint8Array, from: number, step: number, shares: Int32Array): number {
  let sum = 1 << (PRECISION_BITS - 1);
  for (let index = 0; index < shares.length; index++) sum += data[from + index * step]! * shares[index]!;
  const value = Math.floor(sum / 2 ** PRECISION_BITS); // sums stay below 2^31, weights add up to 2^22
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

/** Means of blocks; those at the right and lower border may be smaller. */
function boxReduced(picture: Pixels, across: number, down: number): Pixels {
  const width = Math.ceil(picture.width / across);
  const height = Math.ceil(picture.height / down);
  const data = new Uint8Array(width * height * COLOURS);
  let to = 0;
  for (let y = 0; y < height; y++) {
    const rows = Math.min(down, picture.height - y * down);
    for (let x = 0; x < width; x++) {
      const columns = Math.min(across, picture.width - x * across);
      for (let colour = 0; colour < COLOURS; colour++) {
        let sum = 0;
        for (let row = 0; row < rows; row++) {
          const from = ((y * down + row) * picture.width + x * across) * COLOURS + colour;
          for (let column = 0; column < columns; column++) sum += picture.data[from + column * COLOURS]!;
        }
        data[to++] = blockMean(sum, rows * columns);
      }
    }
  }
  return { width, height, data };
}

/** Pillow multiplies by an integer reciprocal of 24 bits instead of dividing. */
function blockMean(sum: number, count: number): number {
  const multiplier = Math.trunc(2 ** 24 / count);
  return Math.floor(((sum + (count >> 1)) * multiplier) / 2 ** 24);
}
