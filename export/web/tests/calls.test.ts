import assert from "node:assert/strict";
import { test } from "node:test";

import { callsOf } from "../src/calls.ts";

class StandIn extends EventTarget {
  readonly asked: { id: number; call: string }[] = [];
  listeners = 0;

  postMessage(question: { id: number; call: string }): void {
    this.asked.push(question);
  }

  override addEventListener(...given: Parameters<EventTarget["addEventListener"]>): void {
    this.listeners++;
    super.addEventListener(...given);
  }

  answer(id: number, value: unknown): void {
    this.dispatchEvent(new MessageEvent("message", { data: { id, value } }));
  }
}

test("each call gets its own answer, in whatever order they come", async () => {
  const worker = new StandIn();
  const calls = callsOf(worker as unknown as Worker);
  const [memory, proof] = [calls.memory(), calls.prove()];
  assert.deepEqual(worker.asked.map(({ call }) => call), ["memory", "prove"]);
  worker.answer(worker.asked[1]!.id, "proof");
  worker.answer(worker.asked[0]!.id, "memory");
  assert.deepEqual(await Promise.all([memory, proof]), ["memory", "proof"]);
});

test("a worker that stops fails all that is asked, and calls add no listeners", async () => {
  const worker = new StandIn();
  const calls = callsOf(worker as unknown as Worker);
  const { listeners } = worker;
  const asked = [calls.memory(), calls.prove()];
  assert.equal(worker.listeners, listeners);
  worker.dispatchEvent(new Event("error"));
  for (const one of asked) await assert.rejects(one, /has stopped/);
});
