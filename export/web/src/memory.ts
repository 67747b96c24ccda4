// Bytes of WebAssembly memory: it only grows, so its size is its peak since the page was opened.

export interface WasmMemory {
  /** As large as it has grown, in steps of up to a fifth. */
  readonly bytes: number;
  /** Up to the last byte that is not zero: fresh memory is, so this is how far the heap was ever written. */
  readonly touched_bytes: number;
}

/**
 * Starts to watch; call it before anything makes a memory. Returns what all memories of this realm have
 * now. Threads share the memory of the realm that made it.
 */
export function watchWasmMemory(): () => WasmMemory {
  const made: WebAssembly.Memory[] = [];
  const Plain = WebAssembly.Memory;
  WebAssembly.Memory = class extends Plain {
    constructor(size: WebAssembly.MemoryDescriptor) {
      super(size);
      made.push(this);
    }
  };
  return () => ({
    bytes: made.reduce((sum, memory) => sum + memory.buffer.byteLength, 0),
    touched_bytes: made.reduce((sum, memory) => sum + touched(memory), 0),
  });
}

function touched({ buffer }: WebAssembly.Memory): number {
  const words = new Int32Array(buffer);
  let end = words.length;
  while (end > 0 && words[end - 1] === 0) end--;
  return 4 * end;
}

interface AgentMemory {
  measureUserAgentSpecificMemory?: () => Promise<{ bytes: number }>;
}

/** What the browser says that the whole page and its workers hold, or null where it does not say. */
export async function pageBytes(): Promise<number | null> {
  const measure = (performance as AgentMemory).measureUserAgentSpecificMemory;
  if (!globalThis.crossOriginIsolated || measure === undefined) return null;
  return (await measure.call(performance)).bytes;
}
