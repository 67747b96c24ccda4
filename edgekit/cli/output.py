"""How verbs print: one JSON object on stdout, or text; progress on stderr."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.interrupt import stop_if_interrupted
from edgekit.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value on stdout, nothing else.")]

PRINT_EVERY_S = 10.0
COUNTED = re.compile(r"\d+(?: of |/)\d+|\(\d+\)")
"""A step of many: "scores (3 of 52)", "trunk 200/2000  loss 0.1", "measure cuts (7)"."""


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, allow_nan=False))


@contextmanager
def progress(verb: str) -> Iterator[Callable[[str], None]]:
    """A spinner that shows the step it is given; where stderr is no terminal, lines there.

    What libraries and the user's own code print meanwhile goes to stderr: stdout holds results.
    """
    with redirect_stdout(sys.stderr):
        if not sys.stderr.isatty():
            yield _lines(f"edgekit {verb}")
            return
        from rich.console import Console

        title = f"edgekit {verb}"
        # The stream itself, so that who redirects sys.stderr for a while does not take the spinner.
        with Console(file=sys.stderr).status(title) as status:

            def show(step: str) -> None:
                stop_if_interrupted()
                status.update(f"{title}: {step}")

            yield show


def _lines(title: str) -> Callable[[str], None]:
    """Of each phase, and of what is counted within one ("3 of 52") now and then."""
    begun: set[str] = set()
    last = 0.0

    def show(step: str) -> None:
        nonlocal last
        stop_if_interrupted()
        counted = COUNTED.search(step)
        series = "" if counted is None else step[: counted.start()].partition(" ")[0]
        if counted is None or series not in begun or time.monotonic() >= last + PRINT_EVERY_S:
            print(f"{title}: {step}", file=sys.stderr, flush=True)
            last = time.monotonic()
        if counted is not None:
            begun.add(series)

    return show


def parse_size(text: str | None) -> tuple[int | None, int | None]:
    """ "512x768" as height and width in pixels. Raises UsageError."""
    if text is None:
        return None, None
    height, cross, width = text.lower().partition("x")
    if not cross or not all(side.isascii() and side.isdigit() for side in (height, width)):
        raise UsageError(f"The size '{text}' is not HEIGHTxWIDTH in pixels, such as 256x384.")
    return int(height), int(width)


def parse_inputs(items: list[str], names: Sequence[str]) -> dict[str, Path]:
    """ "name=file.npy" items by name; a file alone is the only one of the bundle's inputs `names`. Raises UsageError."""
    named = {}
    for item in items:
        name, equals, file = item.partition("=")
        if item and not equals and len(names) == 1:
            name, file = names[0], item
        if not name or not file:
            raise UsageError(
                f"The input '{item}' is not NAME=FILE.npy, such as {names[0]}=x.npy; "
                f"the bundle's inputs are {', '.join(names)}."
            )
        if name in named:
            raise UsageError(f"The input '{name}' is given twice.")
        named[name] = Path(file)
    return named


def require_drawable(picture: Path | None) -> None:
    """Raises UsageError for what no picture can be written to, before the work is done."""
    if picture is not None and picture.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"The picture '{picture}' is neither a .png nor an .svg file.")
    if picture is not None and not picture.absolute().parent.is_dir():
        raise UsageError(f"The folder of the picture '{picture}' does not exist.")
