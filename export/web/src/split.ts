// A split bundle: its head here, and its tails here or where `edgekit split serve` answers.

import type { Bundle } from "./bundle.ts";
import { type Codec, codecOf } from "./codec.ts";
import { IDENTICAL_DB, type Judged, type Verdict, judgeOne, verdictOf } from "./golden.ts";
import type { Placement } from "./letterbox.ts";
import type { SplitFacts, TensorSpec } from "./manifest.ts";
import { readPacket, writePacket } from "./packet.ts";
import { type Answer, askTail } from "./relay.ts";
import type { Models } from "./session.ts";
import { type Tensor, type Tensors, numbers } from "./tensor.ts";

const GOLDEN_PACKET = "golden.packet";

export interface Sent {
  readonly outputs: Tensors;
  /** Of the picture; null of an input that is none. */
  readonly placement: Placement | null;
  readonly answered_by: "server" | "here" | "exit";
  /** Why the server did not answer; empty if it did. */
  readonly why: string;
  readonly packet_bytes: number;
  readonly channels: number;
  readonly ms: Readonly<Record<string, number>>;
}

export class SplitEngine {
  private constructor(
    private readonly bundle: Bundle, private readonly facts: SplitFacts,
    private readonly codec: Codec, private readonly models: Models,
  ) {}

  static async open(bundle: Bundle, models: Models): Promise<SplitEngine> {
    const facts = bundle.manifest.split!;
    await models.openAll([facts.head, ...Object.values(facts.tails)], (file) => bundle.file(file));
    return new SplitEngine(bundle, facts, await codecOf(bundle, facts), models);
  }

  async run(inputs: Tensors): Promise<Tensors> {
    const made = await this.models.run(this.facts.head, inputs);
    return this.tails(this.codec.values(this.travelled(made), this.facts.channels));
  }

  /** The head's packet of an input, and its answer: by the server, or by the bundle's own tail. */
  async send(input: Tensor, placement: Placement | null, keep: number, relay: string): Promise<Sent> {
    const { facts, codec } = this;
    const started = performance.now();
    const made = await this.models.run(facts.head, { [this.bundle.manifest.inputs[0]!.name]: input });
    const computed = performance.now();
    const early = this.earlyAnswer(made);
    if (early) {
      return { outputs: early, placement, answered_by: "exit", why: "", packet_bytes: 0, channels: 0, ms: { head: computed - started } };
    }
    const bottleneck = made[facts.head_output]!;
    const packet = this.packet(bottleneck, keep, placement);
    const coded = performance.now();
    const ms = { head: computed - started, coding: coded - computed };
    const sent = { placement, packet_bytes: packet.length, channels: keep };
    try {
      const answer = await askTail(relay, packet);
      return { ...sent, outputs: answer.outputs, answered_by: "server", why: "", channels: answer.channels, ms: { ...ms, ...timesOf(answer, performance.now() - coded) } };
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      const outputs = await this.tails(codec.values(this.travelled(made, keep), keep));
      return { ...sent, outputs, answered_by: "here", why, ms: { ...ms, tail: performance.now() - coded } };
    }
  }

  /** Head, coder, tails and all together on the golden input, by the gates of `edgekit verify`. */
  async prove(inputs: Tensors): Promise<{ verdict: Verdict; outputs: Tensors }> {
    const { facts, codec } = this;
    const [parts, expected] = [await this.bundle.golden("part."), await this.bundle.golden("output.")];
    const golden = await this.bundle.file(GOLDEN_PACKET);
    const brought = codec.decode(readPacket(golden, codec.number, facts.hash).payload);
    const made = await this.models.run(facts.head, inputs);
    const own = await this.tails(codec.values(brought, facts.channels));
    const outputs = await this.tails(codec.values(this.travelled(made), facts.channels));
    const rows = [this.judgeHead(parts["latent"], made[facts.head_output]!), this.judgeCoder(golden, brought)];
    for (const spec of this.bundle.manifest.outputs) {
      rows.push(this.named("tail", spec, parts[`tail.${spec.name}`], own[spec.name], facts.tail_gate_db));
      rows.push(this.named("both", spec, expected[spec.name], outputs[spec.name], facts.both_gate_db));
    }
    return { verdict: verdictOf(rows, this.bundle.manifest.gate.psnr_db), outputs };
  }

  /** Whether the server gives the golden output for the golden input. */
  async proveLink(inputs: Tensors, relay: string): Promise<{ sent: Sent; rows: readonly Judged[] }> {
    const { manifest } = this.bundle;
    const sent = await this.send(inputs[manifest.inputs[0]!.name]!, null, this.facts.channels, relay);
    const expected = await this.bundle.golden("output.");
    const rows = manifest.outputs.map((spec) => {
      const row = this.named("link", spec, expected[spec.name], sent.outputs[spec.name], this.facts.both_gate_db);
      return { ...row, passed: row.passed && sent.answered_by !== "here" };
    });
    return { sent, rows };
  }

  /** The value next to the latent that rounds to what the file gave: a symbol near a half is no error of 1. */
  private judgeHead(latent: Tensor | undefined, bottleneck: Tensor): Judged {
    if (latent === undefined) throw new Error("The bundle has no golden latent; export the model again.");
    const plane = this.facts.height * this.facts.width;
    const given = numbers(bottleneck);
    const wanted = Float32Array.from(numbers(latent), (value, at) => this.codec.beforeRounding(value, Math.floor(at / plane)));
    const got = Float32Array.from(given, (whole, at) =>
      this.codec.rounds ? Math.min(Math.max(wanted[at]!, whole - 0.5), whole + 0.5) : whole,
    );
    const spec = { name: this.facts.head_output, low: null, high: null } as TensorSpec;
    const tensor = (data: Float32Array): Tensor => ({ dtype: "float32", shape: [data.length], data });
    return this.named("head", spec, tensor(wanted), tensor(got), this.bundle.manifest.gate.psnr_db);
  }

  /** The golden packet, read and written again, must be the same bytes. */
  private judgeCoder(golden: Uint8Array, brought: ArrayLike<number>): Judged {
    const { codec, facts } = this;
    const shape = [1, facts.channels, facts.height, facts.width];
    const again = codec.encode({ dtype: "float32", shape, data: Float32Array.from(brought) }, facts.channels);
    const { payload } = readPacket(golden, codec.number, facts.hash);
    // A dynamic range is chosen anew from values that were rounded: only whole numbers come back the same.
    const same = !codec.rounds || (again.length === payload.length && again.every((byte, at) => byte === payload[at]));
    return { name: "coder: golden packet", psnr_db: same ? IDENTICAL_DB : 0, max_abs: same ? 0 : null, passed: same };
  }

  private named(part: string, spec: TensorSpec, wanted: Tensor | undefined, got: Tensor | undefined, gateDb: number): Judged {
    const judged = judgeOne(spec, wanted, got, this.bundle.manifest, gateDb);
    return { ...judged, name: `${part}: ${spec.name}` };
  }

  /** What a tail would get of what the head made: of values, they and their rounding in a packet. */
  private travelled(made: Tensors, keep = this.facts.channels): ArrayLike<number> {
    const bottleneck = made[this.facts.head_output]!;
    return this.codec.rounds ? numbers(bottleneck) : this.codec.decode(this.codec.encode(bottleneck, keep));
  }

  packet(bottleneck: Tensor, keep: number, placement: Placement | null): Uint8Array {
    const { codec, facts } = this;
    const payload = codec.encode(bottleneck, keep);
    const { hash, height, width } = facts;
    return writePacket({ codec: codec.number, hash, channels: keep, height, width, payload }, placement);
  }

  private async tails(values: Tensor): Promise<Tensors> {
    const files = Object.entries(this.facts.tails);
    const made: Record<string, Tensor> = {};
    for (const [task, file] of files) {
      for (const [name, value] of Object.entries(await this.models.run(file, { values }))) {
        made[files.length === 1 ? name : `${task}.${name}`] = value;
      }
    }
    return made;
  }

  /** The exit's logits if it is sure enough, so that nothing need be sent. */
  private earlyAnswer(made: Tensors): Tensors | null {
    const { exit } = this.facts;
    if (exit === null) return null;
    const logits = made[exit.output]!;
    const values = Array.from(numbers(logits));
    const most = Math.max(...values);
    const sum = values.reduce((total, value) => total + Math.exp(value - most), 0);
    return 1 / sum >= exit.threshold ? { [this.bundle.manifest.outputs[0]!.name]: logits } : null;
  }
}

function timesOf(answer: Answer, waitedMs: number): Record<string, number> {
  const { wait_ms, decode_ms, tail_ms } = answer;
  const link = Math.max(0, waitedMs - wait_ms - decode_ms - tail_ms);
  return { waiting: wait_ms, decoding: decode_ms, tail: tail_ms, link };
}
