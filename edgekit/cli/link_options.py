"""Options of verbs that send packets to the server of a tail."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.errors import UsageError

if TYPE_CHECKING:
    import ssl

    from edgekit.split.bundle import SplitBundle

TokenFile = Annotated[
    Path | None, typer.Option(help="File with a secret that client and server share.")
]
Tls = Annotated[bool, typer.Option("--tls", help="The server has a certificate.")]
Ca = Annotated[
    Path | None, typer.Option(help="PEM file that signed it, if not a public authority.")
]
Keep = Annotated[int | None, typer.Option(help="Send the first so many channels; default: all.")]


def check_keep(opened: SplitBundle, keep: int | None) -> None:
    """Raises UsageError; says so where fewer channels were never trained."""
    facts = opened.facts
    if keep is None:
        return
    least = facts.least_kept or 1
    if not least <= keep <= facts.channels:
        raise UsageError(
            f"--keep {keep}: of the {facts.channels} channels of this head, {least} to {facts.channels} can be sent."
        )
    if facts.least_kept is None and keep < facts.channels:
        typer.echo(
            "edgekit: this head was trained with all its channels; fewer are answered, but not well.",
            err=True,
        )


def read_token(path: Path | None) -> str | None:
    """Raises UsageError."""
    if path is None:
        return None
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"The token file {path} cannot be read: {reason}.") from error
    if not token:
        raise UsageError(f"The token file {path} is empty.")
    return token


def client_tls(tls: bool, ca: Path | None) -> ssl.SSLContext | None:
    """Raises UsageError."""
    if ca is not None and not tls:
        raise UsageError("--ca belongs to --tls.")
    if not tls:
        return None
    import ssl

    try:
        return ssl.create_default_context(cafile=str(ca) if ca is not None else None)
    except OSError as error:
        raise UsageError(f"{ca} holds no certificate: {error.strerror}.") from error
