"""The `edgekit` command: verbs, exit codes, errors as sentences."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import typer

from edgekit.cli import (
    calibrate,
    compress,
    distill,
    doctor,
    evaluate,
    export,
    info,
    inspect,
    label,
    plan,
    profile,
    prune,
    quantize,
    run,
    serve,
    split,
    verify,
)
from edgekit.cli import list as list_verb
from edgekit.cli.interrupt import remember_interrupts
from edgekit.errors import EdgekitError, MissingEnvironmentError, is_out_of_memory

INTERRUPTED = 130

app = typer.Typer(
    help="Compact vision models from a training checkpoint to a verified file on a device.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes 0.1 s to import, half of what `--help` may take
)
app.command("list")(list_verb.list_models)
app.command("info")(info.info)
app.command("export")(export.export)
app.command("run")(run.run)
app.command("verify")(verify.verify)
app.command("calibrate")(calibrate.calibrate)
app.command("evaluate")(evaluate.evaluate)
app.command("label")(label.label)
app.command("plan")(plan.plan)
app.command("profile")(profile.profile)
app.command("prune")(prune.prune)
app.command("distill")(distill.distill)
app.command("quantize")(quantize.quantize)
app.command("compress")(compress.compress)
app.add_typer(split.app, name="split")
app.command("inspect")(inspect.inspect)
app.command("serve")(serve.serve)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Entry point: `--debug` (or EDGEKIT_DEBUG=1) shows tracebacks."""
    debug = "--debug" in sys.argv or bool(os.environ.get("EDGEKIT_DEBUG"))
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    remember_interrupts()
    sys.exit(run_command(arguments, debug=debug))


def run_command(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command line; returns its exit code."""
    try:
        with nullcontext() if debug else _quiet_libraries():
            result = app(arguments or ["--help"], standalone_mode=False)
        if result == INTERRUPTED:  # what newer versions of typer make of Ctrl-C
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except EdgekitError as error:
        return _report(str(error), error.exit_code, debug=debug)
    except (KeyboardInterrupt, typer.Abort):
        return _report("Interrupted; nothing was written.", INTERRUPTED, debug=False)
    except BrokenPipeError:
        # The reader went away (`edgekit list | head -1`); Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except typer.Exit as stop:
        return stop.exit_code
    except Exception as error:  # typer's usage errors, and whatever we did not foresee
        show = getattr(error, "format_message", None)
        if show is not None:
            said = str(show())
            said += "" if said.endswith(("?", ".")) else "."
            return _report(f"{said} See `{_asked(error)} --help`.", 2, debug=debug)
        if is_out_of_memory(error):
            return _report(
                "There is not enough memory for this; give a smaller --size or fewer --frames.",
                MissingEnvironmentError.exit_code,
                debug=debug,
            )
        reason = str(error).strip().splitlines()
        what = f"{type(error).__name__}: {reason[0] if reason else 'no message'}"
        return _report(f"Unexpected {what}; --debug shows where. Please report it.", 1, debug=debug)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """What torch and coremltools log and warn about on the way stands, in short, in our errors."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _asked(error: Exception) -> str:
    """The verb that was used wrongly, as it is typed."""
    context = getattr(error, "ctx", None)
    if context is None:
        return "edgekit"
    verb = str(context.command_path).removeprefix(str(context.find_root().info_name))
    return f"edgekit{verb}"


def _report(sentence: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"edgekit: {sentence}", file=sys.stderr)
    return code
