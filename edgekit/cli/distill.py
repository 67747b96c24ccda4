"""edgekit distill"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from edgekit.cli.output import Json, print_json, progress
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.distillation.hardware import Precision
    from edgekit.distillation.loop import Distilled

DEFAULT_TEACHER = Path("taef2")
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true")


def distill(
    name: Annotated[str, typer.Argument(help="A model with a distillation recipe.")],
    data: Annotated[
        Path,
        typer.Option(
            help="A video, or a folder of videos or pictures, to train on; of a detector annotations in COCO's JSON."
        ),
    ],
    teacher: Annotated[
        Path | None,
        typer.Option(help="Folder, or file, of the teacher's weights. Default: taef2."),
    ] = None,
    # Not --run: torchrun takes that for an option of its own.
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The run's folder. Default: NAME.run here."),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Videos to measure on, which are not trained on.")
    ] = None,
    lpips: Annotated[
        Path | None, typer.Option(help="torchvision's AlexNet weights, to measure LPIPS as well.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Of all stages together. Default: as the recipe has them.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is random.")] = 0,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in its folder; begin if there is none."),
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes that make batches; 0: this one.")] = 2,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    strategy: Annotated[
        str, typer.Option(help="Of several processes, which torchrun starts: ddp or fsdp.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help=", ".join(PRECISIONS))] = "32-true",
    numbers: Annotated[
        Path | None, typer.Option(help="A TOML file in place of the recipe's own.")
    ] = None,
    perceptual: Annotated[
        Path | None,
        typer.Option(help="torchvision's VGG-16 weights: LPIPS as a loss (turbo-vaed-*)."),
    ] = None,
    skip_damaged: Annotated[
        bool,
        typer.Option("--skip-damaged", help="Name files that cannot be read, and go on."),
    ] = False,
    initial: Annotated[
        Path | None, typer.Option(help="Weights to begin with, to fine-tune (detectors).")
    ] = None,
    look_alikes: Annotated[
        Path | None,
        typer.Option(
            help="Pictures, or annotations without boxes, of nothing that is to be found (detectors)."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Train a student on what its teacher computes; resumable."""
    if steps is not None and steps < 1:
        raise UsageError(f"--steps is {steps}; it must be 1 or more.")
    if workers < 0:
        raise UsageError(f"--workers is {workers}; it must be 0 or more.")
    if precision not in PRECISIONS:
        raise UsageError(f"There is no precision '{precision}'; there are {', '.join(PRECISIONS)}.")

    from edgekit.distillation.from_files import FromFiles, recipe_named, require_taken
    from edgekit.distillation.hardware import Hardware

    train = recipe_named(name)
    chosen = {
        "--teacher": teacher, "--lpips": lpips, "--perceptual": perceptual, "--initial": initial,
        "--look-alikes": look_alikes, "--skip-damaged": skip_damaged,
    }  # fmt: skip
    require_taken(name, [option for option, value in chosen.items() if value])
    folder = output or Path(f"{name}.run")
    started = time.perf_counter()
    leads = not int(os.environ.get("RANK", 0))
    with progress("distill") as show:
        asked = FromFiles(
            data=data, teacher=teacher or DEFAULT_TEACHER, run=folder,
            progress=show if leads else lambda _line: None,
            hardware=Hardware(accelerator, None, strategy, cast("Precision", precision)),
            validation=validation, lpips=lpips, steps=steps, seed=seed, resume=resume,
            workers=workers, model=name, numbers=numbers, perceptual=perceptual,
            initial=initial, look_alikes=look_alikes,
            on_damage="skip" if skip_damaged else "refuse",
        )  # fmt: skip
        distilled = train(asked)
    if not leads:
        return
    found = _summary(distilled, time.perf_counter() - started)
    if json:
        print_json(found)
        return
    print(
        f"wrote {found['weights']}: {found['steps']} steps in {found['seconds']:.0f} s, "
        f"{found['frames_per_second']:.1f} frames/s, data wait {found['data_wait']:.0%}, "
        f"{found['peak_memory_bytes'] / 2**30:.2f} GiB at most"
    )
    for metric, value in found["validation"].items():
        print(f"{metric}  {'not a number' if value is None else format(value, '.4g')}")
    print(f"export it with: edgekit export {name} --weights {found['weights']}")


def _summary(distilled: Distilled, seconds: float) -> dict[str, Any]:
    from edgekit.distillation.run_folder import STUDENT, read_metrics

    records = read_metrics(distilled.folder)
    training = [record for record in records if "losses" in record]
    measured = [record["validation"] for record in records if "validation" in record]
    done = {record["stage"]: record["step"] for record in training}
    speeds = sorted(record["frames_per_second"] for record in training)
    return {
        "model": distilled.model.name,
        "run": str(distilled.folder),
        "weights": str(distilled.folder / STUDENT),
        "steps": sum(done.values()),
        "stages": done,
        "losses": training[-1]["losses"],
        "validation": measured[-1] if measured else {},
        "frames_per_second": speeds[len(speeds) // 2],
        "data_wait": sum(record["data_wait"] for record in training) / len(training),
        "peak_memory_bytes": max(record["peak_memory_bytes"] for record in training),
        "seconds": seconds,
    }
