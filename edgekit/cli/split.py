"""edgekit split serve, edgekit split send"""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.link_options import Ca, Keep, Tls, TokenFile, check_keep, client_tls, read_token
from edgekit.cli.output import Json, print_json, progress
from edgekit.cli.split_plan import plan, train_early_exit
from edgekit.errors import LinkError, UsageError
from edgekit.report import aligned

if TYPE_CHECKING:
    import ssl

    from edgekit.split.bundle import SplitBundle
    from edgekit.split.messages import Answer
    from edgekit.split.packet import Placement
    from edgekit.split.server import Counts, Server

DEFAULT_ADDRESS = "127.0.0.1:7411"
LOOPBACK = ("127.", "::1", "localhost")
SHOWN_CLASSES = 5

app = typer.Typer(
    help="A head on the device, its tail on a server, bytes in between.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

app.command("plan")(plan)
app.command("exit")(train_early_exit)

BundleFolder = Annotated[Path, typer.Argument(help="A folder that `edgekit export --split` wrote.")]


@app.command()
def serve(
    bundle: BundleFolder,
    listen: Annotated[
        str, typer.Option(help="HOST:PORT; the system chooses for port 0.")
    ] = DEFAULT_ADDRESS,
    token_file: TokenFile = None,
    certificate: Annotated[
        Path | None, typer.Option(help="PEM file of the server's certificate, for TLS.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of its private key.")] = None,
    connections: Annotated[int, typer.Option(min=1, help="At once.")] = 64,
    idle_seconds: Annotated[
        float, typer.Option(min=0.1, help="Longest silence between packets.")
    ] = 60.0,
    packet_seconds: Annotated[
        float, typer.Option(min=0.1, help="Longest time for a packet to come.")
    ] = 10.0,
    json: Json = False,
) -> None:
    """Answer packets with what the bundle's tail computes, until Ctrl-C."""
    import asyncio

    from edgekit.split.client import Address
    from edgekit.split.server import ServeOptions, Server

    address = Address.parse(listen)
    options = ServeOptions(
        token=read_token(token_file), tls=_server_tls(certificate, key), connections=connections,
        idle_seconds=idle_seconds, packet_seconds=packet_seconds,
    )  # fmt: skip
    with progress("split serve"):
        tail = _opened(bundle).tail()
    if not address.host.startswith(LOOPBACK) and (options.token is None or options.tls is None):
        typer.echo(
            f"edgekit: {address.host} can be reached from elsewhere; --token-file keeps strangers out and "
            "--certificate with --key keeps them from reading and changing packets.",
            err=True,
        )
    counts = asyncio.run(_until_stopped(Server(tail, options), address.host, address.port))
    print_json(counts.to_json()) if json else print(counts.sentence())


async def _until_stopped(server: Server, host: str, port: int) -> Counts:
    import asyncio
    import signal

    from edgekit.split.client import Address

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    at = Address(host, await server.start(host, port))
    typer.echo(f"edgekit: listening on {at}; Ctrl-C stops", err=True)
    await stopped.wait()
    await server.stop()
    return server.counts


@app.command()
def send(
    bundle: BundleFolder,
    image: Annotated[Path, typer.Argument(help="A picture, or the head's input as an .npy file.")],
    to: Annotated[str, typer.Option(help="HOST:PORT of the server.")] = DEFAULT_ADDRESS,
    keep: Keep = None,
    token_file: TokenFile = None,
    tls: Tls = False,
    ca: Ca = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Longest time to wait for the answer.")
    ] = 30.0,
    fallback: Annotated[
        bool, typer.Option(help="Run the bundle's own tail if the link fails.")
    ] = True,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for NAME.npy.")
    ] = None,
    json: Json = False,
) -> None:
    """Run the head here, send what it gives, and print what the server's tail makes of it."""
    import asyncio

    from edgekit.split.client import Address, LinkOptions, ask_once
    from edgekit.split.messages import Answer
    from edgekit.split.packet import write_packet
    from edgekit.split.picture import head_input

    address = Address.parse(to)
    opened = _opened(bundle)
    link = LinkOptions(read_token(token_file), client_tls(tls, ca), answer_seconds=seconds)
    check_keep(opened, keep)
    inputs, placement = head_input(image, opened.bundle)
    with progress("split send") as show:
        show("head")
        _ = opened.head
        times = [time.perf_counter()]
        seen = opened.head_outputs(inputs)
        early = opened.early_answer(seen)
        times.append(time.perf_counter())
        packet = b""
        if early is None:
            packet = write_packet(opened.codec, opened.bottleneck_of(seen), keep, placement)
        times.append(time.perf_counter())
    why = ""
    with progress("split send") as show:
        show("wait for the tail")
        try:
            if early is not None:
                answer = Answer({opened.bundle.outputs[0].name: early}, 0, 0.0, 0.0, 0.0)
            else:
                answer = asyncio.run(ask_once(address, opened.codec, packet, link))
                opened.require_answer(answer.outputs, str(address))
        except LinkError as error:
            if not fallback:
                raise
            why = str(error)
            typer.echo(f"edgekit: {why} The tail of {bundle.name} ran here instead.", err=True)
            answer = opened.tail().answer(packet, time.perf_counter())
        times.append(time.perf_counter())
    by = "exit" if early is not None else "here" if why else "server"
    written = _write(output, answer, opened)
    head_ms, coding_ms, rest_ms = (1000 * (b - a) for a, b in pairwise(times))
    spent = {
        "head": head_ms, "coding": coding_ms, "waiting": answer.wait_ms, "decoding": answer.decode_ms,
        "tail": answer.tail_ms,
        "link": 0.0 if by != "server" else max(0.0, rest_ms - answer.wait_ms - answer.decode_ms - answer.tail_ms),
    }  # fmt: skip
    if json:
        print_json(
            {
                "answered_by": by,
                "link_error": why or None,
                "packet_bytes": len(packet),
                "channels": answer.channels,
                "ms": {name: round(value, 3) for name, value in spent.items()},
                "found": _found(answer, opened, placement),
                "outputs": {name: list(value.shape) for name, value in answer.outputs.items()},
                "files": [str(path) for path in written],
            }
        )
        return
    print(_table(_found(answer, opened, placement), answer))
    for path in written:
        print(f"wrote {path}")
    print(
        f"{len(packet)} bytes, {answer.channels} of {opened.facts.channels} channels, answered "
        f"{f'by {address}' if by == 'server' else 'by the early exit' if by == 'exit' else 'here'}; ms: "
        + ", ".join(f"{name} {value:.1f}" for name, value in spent.items())
    )


def _opened(path: Path) -> SplitBundle:
    from edgekit.bundle import open_bundle
    from edgekit.split.bundle import SplitBundle

    bundle = open_bundle(path)
    split = SplitBundle(bundle)
    if changed := bundle.changed_files():
        raise UsageError(f"{changed[0]} of {path} is not the file that was exported; export again.")
    return split


def _server_tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if (certificate is None) != (key is None):
        raise UsageError("--certificate and --key belong together.")
    if certificate is None:
        return None
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a password callback, openssl would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it asks for a password"
        raise UsageError(
            f"{certificate} with {key} cannot be used as certificate and key: {reason}."
        ) from error
    return context


def _write(folder: Path | None, answer: Answer, opened: SplitBundle) -> list[Path]:
    if folder is None:
        return []
    from edgekit.arrays import write_results

    return write_results(folder, dict(answer.outputs), opened.bundle.outputs)


def _found(
    answer: Answer, opened: SplitBundle, placement: Placement | None
) -> list[dict[str, Any]] | None:
    """Classes of a classifier, boxes of a detector, in pixels of the picture; None of other networks."""
    import numpy as np

    from edgekit.box_contract import Boxes
    from edgekit.image_contract import Logits

    contract = opened.bundle.image_contract
    output = contract.output if contract is not None else None
    if isinstance(output, Logits) and "logits" in answer.outputs:
        logits = answer.outputs["logits"][0].astype(np.float64)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = np.argsort(-shares)[:SHOWN_CLASSES]
        return [{"class": int(k), "probability": round(float(shares[k]), 4)} for k in best]
    if isinstance(output, Boxes) and {"boxes", "scores"} <= set(answer.outputs):
        from dataclasses import replace

        from edgekit.detection.suppression import suppressed

        asked = output.thresholds()
        boxes, scores = (answer.outputs[name][0].astype(np.float32) for name in ("boxes", "scores"))
        found = suppressed(boxes, scores, asked.score, asked.iou, asked.limit)
        if placement is not None:
            found = replace(found, boxes=placement.to_source(found.boxes).astype(np.float32))
        return found.to_json(output.names)
    return None


def _table(found: list[dict[str, Any]] | None, answer: Answer) -> str:
    if found is None:
        shapes = (f"{name} {'x'.join(map(str, value.shape))}" for name, value in answer.outputs.items())  # fmt: skip
        return "\n".join(shapes)
    if not found:
        return "nothing was found"
    rows = [tuple(found[0]), *(tuple(str(cell) for cell in row.values()) for row in found)]
    return aligned(rows)
