"""edgekit serve"""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.link_options import read_token
from edgekit.cli.output import Json, print_json
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.bundle import Bundle
    from edgekit.serving.relay import Relay


def serve(
    bundle: Annotated[Path, typer.Argument(help="A folder that `edgekit export` wrote, for ONNX.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="The system chooses for 0.")] = 7400,
    browser: Annotated[bool, typer.Option(help="Open the page.")] = True,
    input: Annotated[
        Path | None,
        typer.Option(help="A picture that the page begins with, or a latent as an .npy file."),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="With a latent: frames to play beside it, as an .npy file.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Of a split bundle: HOST:PORT of `edgekit split serve`, for its packets."
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="With --split: file with the secret that its server asks for."),
    ] = None,
    json: Json = False,
) -> None:
    """Run a bundle in the browser of this machine, until Ctrl-C."""
    from edgekit.bundle import open_bundle
    from edgekit.serving.host import HERE, Host
    from edgekit.serving.site import page_folder, site

    opened = open_bundle(bundle)
    relay = _relay(opened, split, token_file)
    served = site(page_folder(), opened, split, input, reference)
    server = Host(served, relay).listen(port)
    address = f"http://{HERE}:{server.server_address[1]}/"
    try:
        if json:
            print_json({"address": address, "bundle": str(bundle), "split": split})
            sys.stdout.flush()
        typer.echo(f"edgekit: {bundle.name} at {address}; Ctrl-C stops", err=True)
        if browser:
            webbrowser.open(address)
        server.serve_forever()
    except KeyboardInterrupt:
        pass  # how it is meant to end
    finally:
        server.server_close()


def _relay(bundle: Bundle, split: str | None, token_file: Path | None) -> Relay | None:
    """Raises UsageError, also for a server elsewhere: packets and the token would go there in the clear."""
    if split is None:
        if token_file is not None:
            raise UsageError("--token-file belongs to --split.")
        return None
    from edgekit.serving.host import LOOPBACK
    from edgekit.serving.relay import Relay
    from edgekit.split.bundle import SplitBundle
    from edgekit.split.client import Address, LinkOptions

    address = Address.parse(split)
    if address.host not in LOOPBACK:
        raise UsageError(
            f"--split {split} is another machine, and the page's packets travel without TLS; "
            f"forward a port of this one: ssh -L 7401:127.0.0.1:{address.port} {address.host}."
        )
    return Relay(SplitBundle(bundle), address, LinkOptions(read_token(token_file)))
