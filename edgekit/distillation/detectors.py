"""Train a detector on annotated pictures, with the loss that its family was published with.

    edgekit distill leyolo-composites --data train/annotations.json --validation held-out/annotations.json

    edgekit distill leyolo-composites --data train/ --look-alikes look-alikes/ --initial leyolo-composites.safetensors

The second fine-tunes a trained detector so that it hallucinates less; see look_alikes.py. Features of a
teacher are matched beside the boxes where --numbers asks for it; see detector_features.py.
Annotations are COCO's; pictures lie in `pictures` or `images` beside them, or beside the JSON file itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.box_contract import Boxes
from edgekit.checkpoint import load_weights
from edgekit.contract import Size
from edgekit.detection.coco_figures import FIGURES, coco_figures, require_pycocotools
from edgekit.detection.detections import Detections
from edgekit.detection.losses_centres import CentreLoss
from edgekit.detection.losses_leyolo import LeYOLOLoss
from edgekit.detection.losses_ssd import SSDLoss
from edgekit.detection.suppression import suppressed
from edgekit.detection.targets import Losses, Target
from edgekit.distillation.damage import OnDamage, Skipped, listed
from edgekit.distillation.detector_features import AsTaken, feature_teacher
from edgekit.distillation.from_files import FromFiles
from edgekit.distillation.look_alikes import WithLookAlikes, WithoutBoxes
from edgekit.distillation.loop import Distilled, distill
from edgekit.distillation.losses import Loss
from edgekit.distillation.numbers_file import read_numbers
from edgekit.distillation.optimisers import AdamW
from edgekit.distillation.pictures import FROM_THE_MIDDLE, CocoDetection, Cut, Pictures
from edgekit.distillation.run_folder import STUDENT, require_resumed
from edgekit.distillation.schedules import Cosine
from edgekit.distillation.stage import Stage, Validation
from edgekit.distillation.taps import Batch, Outputs, Tapped
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract
from edgekit.model import model_of_recipe
from edgekit.recipe import Recipe, find_recipe
from edgekit.zoo.families import build_network

FamilyLoss = Callable[[Any, Sequence[Target], tuple[int, int]], Losses]
LOSSES: Mapping[str, FamilyLoss] = {
    "leyolo": LeYOLOLoss(), "mobiledet": SSDLoss(), "codenet": CentreLoss(),
}  # fmt: skip
"""By family."""
PICTURES = ("pictures", "images")
COUNTED_SCORE = 0.05
"""Boxes of a lower score do not change the mean average precision visibly, and take most of the time."""


@dataclass(frozen=True)
class Numbers:
    """models/distillation/detectors.toml, and detectors-look-alikes.toml to fine-tune with look-alikes."""

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup: int
    ema: float
    clip_norm: float
    flip: float
    validate_every: int
    look_alikes: float = 0.25
    """Share of pictures in whose place a look-alike is shown, where there are some."""
    features: dict[str, Any] = field(default_factory=dict)
    """What is matched of a teacher's beside the boxes, see FeatureNumbers."""


def annotated(
    annotations: Path, size_px: int, cut: Cut, on_damage: OnDamage = "refuse"
) -> CocoDetection:
    """Of a JSON file, or of the `annotations.json` in a folder. Raises UsageError."""
    if annotations.is_dir():
        annotations = annotations / "annotations.json"
    beside = [annotations.parent / name for name in PICTURES]
    folder = next((folder for folder in beside if folder.is_dir()), annotations.parent)
    return CocoDetection(annotations, folder, size_px, cut, on_damage=on_damage)


def look_alikes(
    source: Path, size_px: int, cut: Cut, on_damage: OnDamage = "refuse"
) -> Pictures | WithoutBoxes:
    """Of annotations that mark nothing, or of a folder of pictures. Raises UsageError."""
    if source.is_dir() and not (source / "annotations.json").is_file():
        return Pictures(source, size_px, cut, on_damage=on_damage)
    return WithoutBoxes(annotated(source, size_px, cut, on_damage), source)


@dataclass(frozen=True)
class Training:
    """How a network of one contract runs on a batch of `CocoDetection`, and what it is measured by."""

    contract: ImageContract
    loss: FamilyLoss

    @property
    def fill(self) -> int:
        """Grey beside pictures that are no squares, as at inference."""
        output = self.contract.output
        assert isinstance(output, Boxes)
        return output.fill

    def images(self, batch: Batch) -> Tensor:
        """N 3 H W as the network takes them."""
        return AsTaken(self.contract)(batch["picture"])

    def boxes(self, network: nn.Module, batch: Batch) -> Any:
        return network(self.images(batch))

    def heads(self, network: nn.Module, batch: Batch) -> Any:
        """What the loss takes."""
        raw: Any = network.raw
        return raw(self.images(batch))

    def term(self, batch: Batch, student: Outputs, _teacher: Outputs) -> Tensor:
        """Per image."""
        height, width = batch["picture"].shape[-2:]
        targets = targets_of(batch)
        return self.loss(student.output, targets, (height, width)).total / len(targets)

    def found_and_expected(
        self, batch: Batch, student: Outputs
    ) -> tuple[list[Detections], list[Target]]:
        boxes, scores = (value.float().cpu().numpy() for value in student.output)
        output = self.contract.output
        assert isinstance(output, Boxes)
        found = [
            suppressed(boxes[image], scores[image], COUNTED_SCORE, output.iou, output.limit)
            for image in range(len(boxes))
        ]
        return found, targets_of(batch)


def targets_of(batch: Batch) -> list[Target]:
    kept = batch["labels"] >= 0
    return [
        Target(boxes[keep], labels[keep])
        for boxes, labels, keep in zip(batch["boxes"], batch["labels"], kept, strict=True)
    ]


class MeanPrecision:
    """One of COCO's figures over all that was seen, as a validation takes it."""

    higher_is_better = True

    def __init__(self, figure: str, classes: int) -> None:
        require_pycocotools()
        self._place = FIGURES.index(figure)
        self._classes = classes
        self.reset()

    def update(self, found: Any, expected: Any) -> None:
        for one, target in zip(found, expected, strict=True):
            self._images += 1
            self._found += [
                _annotation(self._images, box, label) | {"score": float(score)}
                for box, label, score in zip(one.boxes, one.labels, one.scores, strict=True)
            ]
            boxes, classes = target.boxes.cpu().numpy(), target.classes.tolist()
            for box, label in zip(boxes, classes, strict=True):
                own = _annotation(self._images, box, label) | {"iscrowd": 0}
                own |= {"id": len(self._expected) + 1, "area": own["bbox"][2] * own["bbox"][3]}
                self._expected.append(own)

    def compute(self) -> Tensor:
        names = {label + 1: str(label) for label in range(self._classes)}
        dataset = {
            "images": [{"id": number + 1} for number in range(self._images)],
            "categories": [{"id": key, "name": name} for key, name in names.items()],
            "annotations": self._expected,
        }
        figures, _ = coco_figures(dataset, self._found, names)
        return torch.tensor(figures[self._place])

    def reset(self) -> None:
        self._images = 0
        self._found: list[dict[str, Any]] = []
        self._expected: list[dict[str, Any]] = []

    def to(self, _device: Any) -> MeanPrecision:
        return self


def _annotation(image: int, box: Any, label: int) -> dict[str, Any]:
    """In COCO's form."""
    x1, y1, x2, y2 = (float(side) for side in box)
    return {"image_id": image, "category_id": int(label) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}


def train(asked: FromFiles) -> Distilled:
    """On the boxes of the annotations, from scratch or from the weights that are given."""
    require_resumed(asked.run, resume=asked.resume)
    recipe = find_recipe(asked.model)
    default = "detectors" if asked.look_alikes is None else "detectors-look-alikes"
    numbers = read_numbers(Numbers, default, asked.numbers)
    if asked.steps is not None:
        numbers = replace(numbers, steps=asked.steps)
    training = Training(_contract(recipe), LOSSES[recipe.family])
    size_px = training.contract.height
    cut = Cut(random_crop=True, flip=numbers.flip, whole=(0.0, 1.0), fill=training.fill)
    known = _marked(asked, training, asked.data, cut)
    validation = _validation(asked, training, numbers)
    items: CocoDetection | WithLookAlikes = known
    if asked.look_alikes is not None:
        others = look_alikes(asked.look_alikes, size_px, cut, asked.on_damage)
        _say_skipped(asked, asked.look_alikes, others.skipped)
        items = WithLookAlikes(known, others, numbers.look_alikes)
    torch.manual_seed(asked.seed)
    network: Any = build_network(recipe)
    initial = asked.initial or (recipe.bundled_weights if recipe.channels else None)
    if initial is not None:
        load_weights(network, initial)
    network = network.to(memory_format=torch.channels_last)
    student, teacher = Tapped(network, forward=training.boxes), None
    losses = [Loss(recipe.family, training.term)]
    if numbers.features and asked.numbers is not None:
        features = feature_teacher(numbers.features, asked.numbers)
        student, teacher = features.taught(student, size_px), features.tapped
        losses += features.losses()
    stage = Stage(
        "boxes", losses, numbers.steps,
        optimiser=AdamW(numbers.learning_rate, weight_decay=numbers.weight_decay, eps=1e-8, decays_vectors=False),
        rate=Cosine(numbers.warmup), batch_size=numbers.batch_size, clip_norm=numbers.clip_norm,
        ema=numbers.ema, forward=training.heads,
    )  # fmt: skip
    distilled = distill(
        student, teacher, items, [stage], run=asked.run,
        validation=validation, seed=asked.seed, resume=asked.resume,
        workers=asked.workers, hardware=asked.hardware, progress=asked.progress,
    )  # fmt: skip
    weights = distilled.folder / STUDENT
    return Distilled(model_of_recipe(recipe, weights, Size()), distilled.folder)


def _contract(recipe: Recipe) -> ImageContract:
    contract = recipe.contract
    if not isinstance(contract, ImageContract) or not isinstance(contract.output, Boxes):
        raise UsageError(f"{recipe.name} is no detector: its recipe has no [image.boxes].")
    if contract.height != contract.width:
        raise UsageError(
            f"{recipe.name} takes {contract.height}x{contract.width}, and training cuts squares; give its "
            "recipe the same height and width."
        )
    return contract


def _marked(asked: FromFiles, training: Training, source: Path, cut: Cut) -> CocoDetection:
    """Annotations whose classes are the network's, in its order. Raises UsageError for others."""
    items = annotated(source, training.contract.height, cut, asked.on_damage)
    output = training.contract.output
    assert isinstance(output, Boxes)
    if output.names != items.categories:
        raise UsageError(
            f"{asked.model} finds {', '.join(output.names)}, and {source} marks "
            f"{', '.join(items.categories)}; give a recipe with the same names in the same order."
        )
    if items.notes:
        asked.progress(f"of {source}: {'; '.join(items.notes)}")
    _say_skipped(asked, source, items.skipped)
    return items


def _say_skipped(asked: FromFiles, source: Path, skipped: Sequence[Skipped]) -> None:
    if skipped:
        asked.progress(f"left out {len(skipped)} files of {source}: {listed(skipped)}")


def _validation(asked: FromFiles, training: Training, numbers: Numbers) -> Validation | None:
    if asked.validation is None:
        return None
    cut = replace(FROM_THE_MIDDLE, whole=(1.0, 1.0), fill=training.fill)
    items = _marked(asked, training, asked.validation, cut)
    output = training.contract.output
    assert isinstance(output, Boxes)
    metrics: Any = {name: MeanPrecision(name, output.classes) for name in ("ap50", "ap")}
    compare: Any = training.found_and_expected
    return Validation(items, metrics, compare, every=numbers.validate_every, batch_size=16)
