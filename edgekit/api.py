"""What `import edgekit` offers: load, export, run, stream, profile, verify, calibrate, evaluate, label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from edgekit.box_contract import Thresholds
from edgekit.bundle import Bundle, open_bundle
from edgekit.contract import Size
from edgekit.detection.coco_evaluation import Evaluation, evaluate_detector
from edgekit.detection.detector import Detector, detector_of_bundle, detector_of_model
from edgekit.detection.hallucinations import Screening
from edgekit.detection.in_the_file import InTheFile
from edgekit.detection.known_boxes import calibrated
from edgekit.detection.labelling import SURE_SCORE, Labelled, LabelOptions
from edgekit.detection.labelling import label as written_labels
from edgekit.detection.safety import ACCEPTANCE, Safety
from edgekit.detection.safety_file import FILE as SAFETY_FILE
from edgekit.detection.safety_file import read_safety, write_safety
from edgekit.errors import UsageError
from edgekit.exporting import ExportOptions, default_folder, export_model, silent
from edgekit.model import RANDOM_WEIGHTS, Model, model_of_module, model_of_recipe
from edgekit.parity.detections import judge
from edgekit.parity.planned_memory import measured_memory
from edgekit.plan.choose import requested
from edgekit.plan.live import streamed_through
from edgekit.plan.runner import PlanRunnable, open_runnable
from edgekit.profiling.end_to_end import Kind, Source
from edgekit.profiling.of_bundle import ProfileOptions, profile_bundle
from edgekit.profiling.result import Profile
from edgekit.profiling.timing import TimingOptions
from edgekit.recipe import find_recipe, is_recipe_folder
from edgekit.report import Report
from edgekit.running import open_whole
from edgekit.split.bundle import SplitBundle, SplitFacts
from edgekit.split_parity import split_report
from edgekit.target import find_target
from edgekit.video_latent import PIPELINE_INPUT, LatentScaling

Array = npt.NDArray[np.generic]


def load(
    name: str,
    weights: str | Path | None = None,
    *,
    height: int | None = None,
    width: int | None = None,
    frames: int | None = None,
) -> Model:
    """A model of the zoo, or of a recipe file, with weights from a file or "hub".

    Size is in pixels; None takes the recipe's. Without `weights`, a recipe that carries none gets
    seeded random ones. Raises UsageError, or MissingEnvironmentError without network.
    """
    return model_of_recipe(find_recipe(name), weights, Size(height, width, frames))


def export(
    module: nn.Module | Model,
    example_inputs: Tensor | Sequence[Tensor] = (),
    *,
    target: str = "onnx",
    output: str | Path | None = None,
    precision: str | None = None,
    verify: bool = True,
    simplify: bool = True,
    force: bool = False,
    memory_budget: int | str | None = None,
    tiles: str | None = None,
    stream: int | None = None,
    overlap: int | None = None,
    one_file: bool = False,
    gate_db: float | None = None,
    bake_preprocessing: bool = False,
    nms: bool | Thresholds = False,
    safety: bool = False,
    palette_bits: int | None = None,
    packed: bool = False,
) -> Bundle:
    """Write any module, or a loaded Model, as a bundle; see `edgekit export --help`.

    The module is put in eval mode and stays in it. With `memory_budget` (bytes, or "64MB"), `tiles`
    ("4x4") or `stream` (input frames a step) it runs by a plan, in a few files or, with `one_file`,
    in one. With `overlap` a stream decodes each step with so many frames of its neighbours instead of
    keeping lines: not exact, so `gate_db` may say what PSNR against the module is enough.

    With `bake_preprocessing` the file of a Model of images takes uint8 RGB and normalises it itself. With
    `nms` that of a detector suppresses overlapping boxes, with its recipe's thresholds or those given. With
    `safety` it tells the logits and features that `calibrate` makes filters of hallucinations from.

    With `palette_bits` weights of a Core ML package become indices of so many bits into shared values;
    with `packed` those of a quantised model's ONNX file take as many bits as they have codes of.

    Raises:
        ConversionError: the target cannot hold the graph.
        ParityError: the written file computes something else.
        UsageError: an option or the output folder cannot be used.
    """
    chosen = find_target(target)
    if not isinstance(module, Model):
        model = model_of_module(module, example_inputs)
    elif isinstance(example_inputs, Tensor) or example_inputs:
        raise UsageError("A loaded Model has its own example inputs; leave example_inputs away.")
    else:
        model = module
    folder = Path(output) if output is not None else default_folder(model.name, chosen, precision)
    options = ExportOptions(
        precision,
        verify=verify,
        simplify=simplify,
        force=force,
        plan=requested(memory_budget, tiles, stream, overlap),
        one_file=one_file,
        gate_db=gate_db,
        work=InTheFile(bake_preprocessing, _suppression(model, nms), safety),
        palette_bits=palette_bits,
        packed=packed,
    )
    return export_model(model, chosen, folder, options)[0]


def _suppression(model: Model, nms: bool | Thresholds) -> Thresholds | None:
    if isinstance(nms, Thresholds) or not nms:
        return nms or None
    if model.boxes is None:
        raise UsageError(f"{model.name} is no detector, so there are no boxes to suppress.")
    return model.boxes.thresholds()


def run(bundle: Bundle | str | Path, *inputs: Array) -> tuple[Array, ...]:
    """Outputs of a bundle's file for inputs in the order of its manifest. Raises UsageError."""
    opened = _opened(bundle)
    names = [spec.name for spec in opened.inputs]
    if len(inputs) != len(names):
        raise UsageError(
            f"{opened.path.name} takes {len(names)} inputs ({', '.join(names)}); {len(inputs)} were given."
        )
    results = run_named(opened, dict(zip(names, inputs, strict=True)))
    return tuple(results[spec.name] for spec in opened.outputs)


def stream(bundle: Bundle | str | Path, chunks: Iterable[Array]) -> Iterator[Array]:
    """What a bundle exported with `stream` makes of a video that arrives in chunks of any lengths.

    Chunks are parts of the bundle's input along its frames, and so are the results of its output;
    memory does not grow with the clip's length. Raises UsageError, also for a clip that ends at a
    length which does not stream.
    """
    runnable = open_runnable(_opened(bundle))
    if not isinstance(runnable, PlanRunnable):
        raise UsageError(f"{_opened(bundle).path.name} has no plan; export it with --stream.")
    yield from streamed_through(runnable, chunks)


def run_named(
    bundle: Bundle, inputs: Mapping[str, Array], statistics: LatentScaling | None = None
) -> dict[str, Array]:
    """Outputs by name for inputs by name.

    `pipeline_latent` stands for `latent` as a diffusion pipeline holds it; `statistics` are
    those that its recipe lacks. Raises UsageError.
    """
    given = {name: np.asarray(value) for name, value in inputs.items()}
    if PIPELINE_INPUT in given:
        if "latent" in given:
            raise UsageError(f"Give 'latent' or '{PIPELINE_INPUT}', not both: one is the other.")
        scaling = bundle.scaling
        if scaling is None:
            raise UsageError(f"{bundle.path.name} has no latent, so no '{PIPELINE_INPUT}' either.")
        if statistics is not None:
            scaling = scaling.with_statistics(statistics)
        given["latent"] = scaling.to_raw(given.pop(PIPELINE_INPUT).astype(np.float32))
    for spec in bundle.inputs:
        if spec.name in given:
            given[spec.name] = np.ascontiguousarray(given[spec.name], dtype=spec.dtype)
    return open_whole(bundle).run(given)


def profile(
    bundle: Bundle | str | Path,
    *,
    threads: int = 0,
    seconds: float = 10.0,
    image: str | Path | None = None,
    video: str | Path | None = None,
    latent: str | Path | None = None,
) -> Profile:
    """Latency, layers and memory of an ONNX bundle on this machine; `edgekit profile --help`.

    `threads` of one run (0: as many as there are CPUs); latency is measured for `seconds`. With the file of an image,
    a video, or a latent, also each step from it to boxes, classes, or what is encoded. Of a split bundle head and tail
    both run here; the verb's `--to` measures the way to a server. Raises UsageError.
    """
    files: dict[Kind, str | Path | None] = {"image": image, "video": video, "latent": latent}
    given = [Source(kind, Path(path)) for kind, path in files.items() if path is not None]
    if len(given) > 1:
        raise UsageError("Give one of image, video and latent.")
    options = ProfileOptions(threads, TimingOptions(seconds), given[0] if given else None)
    return profile_bundle(_opened(bundle), options)


def verify(bundle: Bundle | str | Path) -> Report:
    """Run the file on its golden input and judge it by its target's gate.

    Of a split bundle, head, tails and both together, and the golden packet byte by byte.

    Raises UsageError if a file of the bundle is missing or was changed since it was exported.
    """
    opened = _opened(bundle)
    _require_unchanged(opened)
    if SplitFacts.of(opened) is not None:
        return split_report(SplitBundle(opened))
    inputs, expected = opened.golden()
    file = open_runnable(opened)
    report = judge(
        expected, file.run(inputs), opened.outputs, opened.gate, file.reference, opened.boxes,
        opened.suppression,
    )  # fmt: skip
    memory = measured_memory(opened)
    return replace(
        report, memory=memory, passed=report.passed and (memory is None or memory.passed)
    )


def calibrate(
    bundle: Bundle | str | Path,
    annotations: str | Path,
    images: str | Path,
    *,
    score: float | None = None,
    acceptance: float = ACCEPTANCE,
    progress: Callable[[str], None] = silent,
) -> Safety:
    """Make a detector's filters of hallucinations, of pictures of what it knows, and keep them in its bundle.

    The bundle was exported with `safety`. Annotations are COCO's JSON; boxes with a score above `score`,
    by default the recipe's, that cover an object of their class count. Each filter's threshold lets pass
    the share `acceptance` of them.

    Raises UsageError for a file that cannot be used or was changed since it was exported, or pictures in
    which too little is found.
    """
    opened = _opened(bundle)
    _require_unchanged(opened, replaced=SAFETY_FILE)
    detector = detector_of_bundle(opened)
    if not opened.tells_evidence:
        raise UsageError(
            f"{opened.path.name} tells no logits and features, which filters judge by; export it with --safety."
        )
    made = calibrated(
        detector, Path(annotations), Path(images), score=score, acceptance=acceptance, progress=progress
    )  # fmt: skip
    write_safety(opened, made)
    return made


def evaluate(
    detector: Model | Bundle | str | Path,
    annotations: str | Path,
    images: str | Path,
    *,
    weights: str | Path | None = None,
    score: float | None = None,
    iou: float | None = None,
    filter: str | None = None,
    progress: Callable[[str], None] = silent,
) -> Evaluation:
    """COCO's mean average precision of a detector on annotations in COCO's JSON and a folder of pictures.

    The detector is a Model, a bundle or its folder, or a model's name, which may need `weights`.
    `score` is the least one that counts, 0.001 by default; `iou` is that of the suppression, by default
    the recipe's. What the `filter` of a bundle rejects counts with a score below the working threshold.

    Raises:
        MissingEnvironmentError: pycocotools is not installed.
        UsageError: a file cannot be used, or model and annotations share no class.
    """
    found = detector_of(detector, weights)
    notes: tuple[str, ...] = ()
    if filter is not None:
        screening = screening_of(detector, filter)
        found = replace(found, screen=screening.ranked)
        working = f"a score below {screening.safety.score:g}"
        notes = (f"what the filter '{filter}' rejects counts with {working}",)
    figures = evaluate_detector(
        found, Path(annotations), Path(images), score=score, iou=iou, progress=progress
    )
    return replace(figures, notes=(*figures.notes, *notes))


def label(
    teacher: Model | Bundle | str | Path,
    data: str | Path,
    output: str | Path,
    *,
    weights: str | Path | None = None,
    score: float = SURE_SCORE,
    iou: float | None = None,
    classes: Sequence[str] = (),
    every: int = 1,
    held_out: float = 0.0,
    progress: Callable[[str], None] = silent,
) -> Labelled:
    """Boxes of a teacher on pictures and videos, as annotations in COCO's JSON that a student trains on.

    The teacher is what `evaluate` takes. `data` is a file or a folder; of videos one frame in `every` is
    taken. With `held_out` that share at the end of each video goes into a folder of its own.

    Raises:
        MissingEnvironmentError: the folder cannot be written, or videos need PyAV.
        UsageError: `output` exists, a file or an option cannot be used, or nothing was found.
    """
    options = LabelOptions(score, iou, tuple(classes), every, held_out)
    return written_labels(
        detector_of(teacher, weights), Path(data), Path(output), options, progress
    )


def detector_of(source: Model | Bundle | str | Path, weights: str | Path | None = None) -> Detector:
    """Of a Model, a bundle or its folder, or a model's name or recipe file. Raises UsageError."""
    if isinstance(source, Model):
        return detector_of_model(source)
    if isinstance(source, str | Path) and not _is_bundle(Path(source)):
        detector = detector_of_model(load(str(source), weights))
        if detector.weights == RANDOM_WEIGHTS:
            raise UsageError(
                f"{source} comes without weights, and random ones find nothing; give --weights FILE."
            )
        return detector
    if weights is not None:
        raise UsageError("Weights belong to a model's name; a bundle holds its own.")
    return detector_of_bundle(_opened(source))


def screening_of(source: Model | Bundle | str | Path, name: str) -> Screening:
    """A filter of a bundle. Raises UsageError."""
    if isinstance(source, Model) or (
        isinstance(source, str | Path) and not _is_bundle(Path(source))
    ):
        raise UsageError(
            "Filters of hallucinations belong to a bundle; export the model with --safety, and run `edgekit "
            "calibrate` on the bundle."
        )
    safety = read_safety(_opened(source))
    safety.named(name)
    return Screening(safety, name)


def _require_unchanged(bundle: Bundle, replaced: str | None = None) -> None:
    """Of all files but the one that is `replaced`."""
    changed = [name for name in bundle.changed_files() if name != replaced]
    if changed:
        raise UsageError(
            f"{changed[0]} of {bundle.path.name} is not the file that was exported; export again."
        )


def _is_bundle(path: Path) -> bool:
    return (path.is_dir() and not is_recipe_folder(path)) or path.suffix == ".bundle"


def _opened(bundle: Bundle | str | Path) -> Bundle:
    return bundle if isinstance(bundle, Bundle) else open_bundle(Path(bundle))
