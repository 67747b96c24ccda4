// Bytes of WebAssembly memory: it only grows, so its size is its peak since the page was opened.

/**
 * Starts to watch; call it before anything makes a memory. Returns how many bytes all memories of this
 * realm have now. Threads share the memory of the realm that made it.
 */
export function watchWasmMemory(): () => number {
  const made: WebAssembly.Memory[] = [];
  const Plain = WebAssembly.Memory;
  WebAssembly.Memory = class extends Plain {
    constructor(size: WebAssembly.MemoryDescriptor) {
      super(size);
      made.push(this);
    }
  };
  return () => made.reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
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
