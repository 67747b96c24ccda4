"""Where to cut a network: every way to its answer, measured here and carried over to a device."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from edgekit.backends.runnable import Array
from edgekit.detection.letterbox import Pixels
from edgekit.detection.picture_file import read_picture
from edgekit.errors import UsageError
from edgekit.exporting import Progress, captured_model, silent
from edgekit.image_contract import ImageContract, Logits
from edgekit.model import RANDOM_WEIGHTS, Model
from edgekit.parity.layer_times import LayerTimes, layer_times
from edgekit.program.capture import without_torch_warnings
from edgekit.report import aligned
from edgekit.split.bundle import SplitBundle
from edgekit.split.candidates import (
    Candidate,
    Link,
    Power,
    good_enough,
    pareto,
    reigns,
    span,
    to_json,
    verdict,
)
from edgekit.split.codec import DynamicCodec
from edgekit.split.early_exit import EarlyExit
from edgekit.split.latency_profile import LatencyProfile
from edgekit.split.of_network import codec_of
from edgekit.split.packet import read_packet, write_packet
from edgekit.split.picture import as_input, seen
from edgekit.zoo.split.attach import split_at
from edgekit.zoo.split.network import SplitNetwork

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
QUALITIES = (30, 60, 90)
SLOW = 95
"""Percentile."""
MOST_KEPT = 6
"""Numbers of channels of a head that are tried."""


@dataclass(frozen=True)
class PlanOptions:
    link: Link
    queue_ms: float = 0.0
    """At the server."""
    runs: int = 10
    within_points: float = 1.0
    """Of the local network's accuracy: whoever is further off does not win a bandwidth."""


@dataclass(frozen=True)
class Pictures:
    """What bytes and accuracy are measured on."""

    names: tuple[str, ...]
    pixels: tuple[Pixels, ...]
    """H W 3 in the network's size."""
    labels: tuple[int, ...] | None
    """Of classes; None: the whole network's own answers stand for them."""
    before_ms: float
    """To read, turn, resize and crop one."""

    @property
    def truth(self) -> str:
        return "labels" if self.labels is not None else "agreement with the whole network"


@dataclass(frozen=True)
class SplitPlan:
    model: str
    candidates: tuple[Candidate, ...]
    options: PlanOptions
    device: str
    slower: float
    times: LayerTimes
    power: Power | None
    notes: tuple[str, ...]

    @property
    def fit(self) -> list[Candidate]:
        return good_enough(self.candidates, self.options.within_points)

    def to_json(self) -> dict[str, Any]:
        link = self.options.link
        best = {item.name for item in pareto(self.candidates, link)}
        return {
            "model": self.model,
            "uplink_bits_per_second": link.bits_per_second,
            "rtt_ms": link.rtt_ms,
            "device": self.device,
            "times_slower_than_here": round(self.slower, 4),
            "measured_by": self.times.reference,
            "candidates": [
                {**to_json(item, link, self.power), "pareto": item.name in best} for item in self.candidates
            ],
            "fastest": [
                {
                    "name": reign.candidate.name,
                    "from_bits_per_second": reign.from_bits,
                    "to_bits_per_second": None if reign.to_bits == float("inf") else reign.to_bits,
                }
                for reign in reigns(self.fit, link.rtt_ms)
            ],
            "layers": [{"name": name, "ms": round(ms, 5)} for name, ms in self.times.by_layer.items()],
            "verdict": verdict(self.fit, link),
            "notes": list(self.notes),
        }  # fmt: skip

    def table(self) -> str:
        link = self.options.link
        best = {item.name for item in pareto(self.candidates, link)}
        heading = (
            "way", "bytes", "p95", "before", "head", "code", "upload", "rtt", "decode", "tail", "exits",
            "total ms", "p95 ms", "right", *(("mJ",) if self.power else ()), "Pareto",
        )  # fmt: skip
        rows = [heading, *(self._row(item, item.name in best) for item in self.candidates)]
        wins = [
            f"{span(reign.from_bits, reign.to_bits)}: {reign.candidate.name}"
            for reign in reigns(self.fit, link.rtt_ms)
        ]
        return "\n".join([aligned(rows), "", "fastest " + "\nfastest ".join(wins), *self.notes, verdict(self.fit, link)])  # fmt: skip

    def _row(self, item: Candidate, is_best: bool) -> tuple[str, ...]:
        link = self.options.link
        sent = [f"{item.bytes_mean:.0f}", f"{item.bytes_p95:.0f}"] if item.sends else ["-", "-"]
        energy = [f"{item.energy_mj(link, self.power):.1f}"] if self.power else []
        parts = (
            item.before_ms, item.head_ms, item.code_ms, item.upload_ms(link),
            link.rtt_ms if item.sends else 0.0, item.decode_ms, item.tail_ms,
        )  # fmt: skip
        return (
            item.name, *sent, *(f"{part:.1f}" for part in parts),
            f"{item.exit_rate:.0%}" if item.exit_rate else "-",
            f"{item.total_ms(link):.1f}", f"{item.slow_ms(link):.1f}",
            "-" if item.accuracy is None else f"{item.accuracy:.1%}", *energy, "yes" if is_best else "",
        )  # fmt: skip


def read_pictures(folder: Path, contract: ImageContract, labels: dict[str, int] | None) -> Pictures:
    """All of a folder, in the network's size. Raises UsageError."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder of pictures.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not files:
        raise UsageError(f"{folder} holds no pictures ({', '.join(PICTURES)}).")
    if labels is not None:
        missing = [path.name for path in files if path.name not in labels]
        if missing:
            raise UsageError(
                f"The labels have nothing for {missing[0]} of {folder} ({len(missing)} such pictures)."
            )
    started = time.perf_counter()
    pixels = tuple(seen(read_picture(path), contract).pixels for path in files)
    before_ms = 1000 * (time.perf_counter() - started) / len(files)
    known = None if labels is None else tuple(labels[path.name] for path in files)
    return Pictures(tuple(path.name for path in files), pixels, known, before_ms)


def inputs_of(model: Model, pictures: Pictures) -> list[Tensor]:
    """As the network takes them, 1 3 H W each. The model has a recipe."""
    contract = sized_contract(model)
    assert contract is not None
    return [torch.from_numpy(as_input(item, contract)) for item in pictures.pixels]


def split_plan(
    model: Model,
    pictures: Pictures | None,
    options: PlanOptions,
    device: LatencyProfile | None = None,
    heads: Sequence[SplitBundle] = (),
    exits: Sequence[EarlyExit] = (),
    progress: Progress = silent,
) -> SplitPlan:
    """Measure all ways. This machine stands for the server, and for the device by the profile's measure.

    Raises UsageError for a profile of other layers, a head of another network or size, and a model that
    takes something else than one image.
    """
    if len(model.example_inputs) != 1 or model.example_inputs[0].ndim != 4:
        raise UsageError(f"{model.name} takes something else than one image; a head takes one.")
    progress("measure layers")
    with without_torch_warnings():
        program = captured_model(model).program
    image = model.example_inputs[0].numpy()
    times = layer_times(program, {program.inputs[0].name: image}, options.runs)
    measured = _Measured(model, pictures, options, times, device)
    progress("measure pictures")
    found = [measured.local(), *measured.images()]
    if isinstance(model.module, SplitNetwork):
        progress("measure its bottleneck")
        found += measured.bottleneck(model.module)
    else:
        for number, cut in enumerate(measured.useful_cuts(), start=1):
            progress(f"measure cuts ({number})")
            found.append(measured.cut(cut.layer, cut.head_ms))
    for head in heads:
        progress(f"measure {head.bundle.path.name}")
        found += measured.head(head)
    for early in exits:
        progress(f"measure the exit at {early.layer}")
        found += measured.with_exit(early, found)
    return SplitPlan(
        model.name, tuple(found), options, measured.device_name, measured.slower, times,
        device.power if device else None, measured.notes(),
    )  # fmt: skip


class _Measured:
    def __init__(
        self,
        model: Model,
        pictures: Pictures | None,
        options: PlanOptions,
        times: LayerTimes,
        device: LatencyProfile | None,
    ) -> None:
        self.model, self.pictures, self.options, self.times = model, pictures, options, times
        self.device = device
        self.contract = sized_contract(model)
        self.slower = _slower(device, times)
        self.device_name = device.device if device else "this machine"
        self.truth = self._truth()
        self._classes_by_way: dict[str, np.ndarray[Any, Any]] = {}

    def notes(self) -> tuple[str, ...]:
        notes = [
            f"server: this machine ({self.times.reference}); device: {self.device_name}, "
            + (
                "the same" if self.device is None
                else f"by its profile, {self.slower:.2f} times as slow on the whole network"
            ),
        ]  # fmt: skip
        if self.pictures is None:
            notes.append("no pictures: bytes of JPEG, WebP and heads, and accuracy, are not known; --pictures FOLDER")  # fmt: skip
        else:
            notes.append(
                f"bytes on {len(self.pictures.pixels)} pictures; right by {self.pictures.truth}"
            )
        if self.model.weights == RANDOM_WEIGHTS and self.truth is not None:
            notes.append("the weights are random, so that accuracy and rates of exits mean nothing")
        hidden = len(self.times.cuts) - len(self.useful_cuts())
        if hidden and not isinstance(self.model.module, SplitNetwork):
            notes.append(
                f"{hidden} cuts are not listed: an earlier one sends no more bytes, or no feature map crosses"
            )
        return tuple(notes)

    def _truth(self) -> np.ndarray[Any, Any] | None:
        """Classes; None if accuracy cannot be known."""
        if (
            self.pictures is None
            or self.contract is None
            or not isinstance(self.contract.output, Logits)
        ):
            return None
        if self.pictures.labels is not None:
            return np.array(self.pictures.labels)
        return self._classes(self.model.module, self.pictures.pixels)

    def _inputs(self, pixels: Sequence[Pixels]) -> list[Tensor]:
        assert self.contract is not None
        return [torch.from_numpy(as_input(item, self.contract)) for item in pixels]

    def _classes(
        self, run: Callable[[Tensor], Tensor], pixels: Sequence[Pixels]
    ) -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            return np.array([int(run(image).argmax()) for image in self._inputs(pixels)])

    def _right(self, way: str, classes: Callable[[], np.ndarray[Any, Any]]) -> float | None:
        """Share of right ones, None if that cannot be known; what was answered is kept for exits."""
        if self.truth is None:
            return None
        found = self._classes_by_way[way] = classes()
        return float(np.mean(found == self.truth))

    def _seen_classes(self, run: Callable[[Tensor], Tensor]) -> np.ndarray[Any, Any]:
        assert self.pictures is not None
        return self._classes(run, self.pictures.pixels)

    @property
    def before_ms(self) -> float:
        return self.slower * self.pictures.before_ms if self.pictures else 0.0

    def on_device(self, layer: str, head_ms: float) -> float:
        """Of the head up to a layer: by the profile's own layers, or as slow as all of it."""
        layers = self.device.layers if self.device else None
        if layers is None:
            return self.slower * head_ms
        total = 0.0
        for name, ms in layers.items():
            total += ms
            if name == layer:
                return total
        raise UsageError(f"The profile of {self.device_name} has no layer '{layer}'; measure it with this model.")  # fmt: skip

    def local(self) -> Candidate:
        device_ms = self.device.total_ms if self.device and self.device.layers else self.slower * self.times.total_ms  # fmt: skip
        right = self._right("local", lambda: self._seen_classes(self.model.module))
        return Candidate("local", "local", self.before_ms, device_ms, accuracy=right)

    def images(self) -> list[Candidate]:
        if self.pictures is None:
            return []
        return [self._image(kind, quality) for kind in ("JPEG", "WebP") for quality in QUALITIES]

    def _image(self, kind: str, quality: int) -> Candidate:
        assert self.pictures is not None
        sizes, code, decode, arrived = [], [], [], []
        for pixels in self.pictures.pixels:
            started = time.perf_counter()
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, kind, quality=quality)
            code.append(time.perf_counter() - started)
            started = time.perf_counter()
            arrived.append(np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")))
            decode.append(time.perf_counter() - started)
            sizes.append(len(buffer.getvalue()))
        name = f"{kind} {quality}"
        right = self._right(name, lambda: self._classes(self.model.module, arrived))
        return Candidate(
            name, "image", self.before_ms, 0.0, self.slower * _median_ms(code),
            float(np.mean(sizes)), float(np.percentile(sizes, SLOW)), _median_ms(decode),
            self.times.total_ms, self.options.queue_ms, right,
        )  # fmt: skip

    def useful_cuts(self) -> list[Any]:
        """Feature maps of fewer bytes than those of all earlier cuts."""
        found, least = [], float("inf")
        for cut in self.times.cuts:
            if len(cut.shape) == 4 and np.prod(cut.shape) < least:
                found.append(cut)
                least = float(np.prod(cut.shape))
        return found

    def cut(self, layer: str, head_ms: float) -> Candidate:
        """As it is exported: the features in 8 bits of their own range."""
        example = self.model.example_inputs[0]
        network = split_at(self.model.module, layer, example)
        with torch.inference_mode():
            bottleneck = network.head(example)[0].numpy()
        codec = DynamicCodec(len(bottleneck))
        packet, code_ms, decode_ms = _coded(codec, bottleneck, None)
        name = f"cut at {layer}"
        right = self._right(name, lambda: self._seen_classes(network))
        return Candidate(
            name, "split", self.before_ms, self.on_device(layer, head_ms),
            self.slower * code_ms, len(packet), len(packet), decode_ms,
            self.times.total_ms - head_ms, self.options.queue_ms, right,
        )  # fmt: skip

    def bottleneck(self, network: SplitNetwork) -> list[Candidate]:
        """Of a model that is made of head and tail: one for each of some numbers of channels kept."""
        codec = codec_of(network)
        inside = [cut for cut in self.times.cuts if cut.layer.partition(".")[0] == "head"]
        if not inside:
            raise UsageError(
                f"No layer of the head of {self.model.name} can be told apart in onnxruntime's profile; export it "
                "with --split bottleneck and give the bundle with --head."
            )
        last = inside[-1]
        head_ms = self.on_device(last.layer, last.head_ms)
        images = [self.model.example_inputs[0]] if self.pictures is None else self._inputs(self.pictures.pixels)  # fmt: skip
        with torch.inference_mode():
            bottlenecks = [network.head(image)[0].numpy() for image in images]
        made = []
        for keep in _some_kept(network.drop.least, codec.channels):
            coded = [_coded(codec, bottleneck, keep) for bottleneck in bottlenecks]
            sizes = [len(packet) for packet, *_ in coded]
            name = f"{self.model.name} keep {keep}"
            right = self._right(name, lambda keep=keep: self._seen_classes(lambda x: network(x, keep=keep)))  # type: ignore[misc]  # fmt: skip
            made.append(
                Candidate(
                    name, "split", self.before_ms, head_ms, self.slower * statistics.median(ms for _, ms, _ in coded),
                    float(np.mean(sizes)), float(np.percentile(sizes, SLOW)),
                    statistics.median(ms for *_, ms in coded), self.times.total_ms - last.head_ms,
                    self.options.queue_ms, right,
                )
            )  # fmt: skip
        return made

    def head(self, split: SplitBundle) -> list[Candidate]:
        """One for each of some numbers of channels kept."""
        spec = split.bundle.inputs[0]
        if spec.shape != tuple(self.model.example_inputs[0].shape):
            raise UsageError(
                f"{split.bundle.path.name} takes {spec.shape}, and {self.model.name} is planned for "
                f"{tuple(self.model.example_inputs[0].shape)}."
            )
        images: list[Array] = (
            [self.model.example_inputs[0].numpy()] if self.pictures is None or self.contract is None
            else [image.numpy() for image in self._inputs(self.pictures.pixels)]
        )  # fmt: skip
        head_ms = _timed(lambda: split.bottleneck({spec.name: images[0]}), self.options.runs)
        bottlenecks = [split.bottleneck({spec.name: image}) for image in images]
        zeros = np.zeros((split.facts.channels, split.facts.height, split.facts.width), np.float32)
        tail_ms = _timed(lambda: split.outputs(zeros), self.options.runs)
        kept = _some_kept(split.facts.least_kept, split.facts.channels)
        return [self._kept(split, bottlenecks, keep, head_ms, tail_ms) for keep in kept]

    def _kept(
        self,
        split: SplitBundle,
        bottlenecks: list[Array],
        keep: int,
        head_ms: float,
        tail_ms: float,
    ) -> Candidate:
        sizes, classes = [], []
        judged = self.truth is not None
        for bottleneck in bottlenecks:
            packet, code_ms, decode_ms = _coded(split.codec, bottleneck, keep)
            sizes.append(len(packet))
            if judged:
                made = next(iter(split.outputs(split.arrived(packet).values).values()))
                classes.append(int(made.argmax()))
        name = f"{split.bundle.path.name.removesuffix('.bundle')} keep {keep}"
        return Candidate(
            name, "split", self.before_ms, self.slower * head_ms, self.slower * code_ms,
            float(np.mean(sizes)), float(np.percentile(sizes, SLOW)), decode_ms, tail_ms,
            self.options.queue_ms, self._right(name, lambda: np.array(classes)),
        )  # fmt: skip

    def with_exit(self, early: EarlyExit, found: Sequence[Candidate]) -> list[Candidate]:
        """The best local way, and the best cut behind the exit, each with the exit before it."""
        cut = next((cut for cut in self.times.cuts if cut.layer == early.layer), None)
        if cut is None:
            raise UsageError(
                f"The exit sits at '{early.layer}', where {self.model.name} cannot be cut; train another."
            )
        if self.pictures is None or self.truth is None:
            raise UsageError("The rate of an early exit is measured on pictures of a classifier: --pictures FOLDER.")  # fmt: skip
        exit_ms = self.on_device(early.layer, cut.head_ms)
        answers = early.answers(self.model.module, self._inputs(self.pictures.pixels))
        leaves = answers.confidence >= early.threshold
        link = self.options.link
        behind = [
            item for item in found if item.name.startswith("cut at ") and item.head_ms >= exit_ms
        ]
        ways = [found[0], *([min(behind, key=lambda item: item.total_ms(link))] if behind else [])]
        made = []
        for way in ways:
            classes = np.where(leaves, answers.classes, self._classes_by_way[way.name])
            name = f"exit at {early.layer}, else {way.name}"
            made.append(
                replace(
                    way, name=name, exit_rate=float(leaves.mean()), exit_ms=exit_ms,
                    accuracy=float(np.mean(classes == self.truth)),
                )
            )  # fmt: skip
        return made


def sized_contract(model: Model) -> ImageContract | None:
    contract = model.recipe.contract if model.recipe else None
    if not isinstance(contract, ImageContract):
        return None
    height, width = model.example_inputs[0].shape[-2:]
    return replace(contract, height=height, width=width)


def _slower(device: LatencyProfile | None, times: LayerTimes) -> float:
    if device is None:
        return 1.0
    if device.slower is not None:
        return device.slower
    return device.total_ms / times.total_ms


def _some_kept(least: int | None, channels: int) -> list[int]:
    """All, of a head that was not trained to lose some."""
    return sorted({round(k) for k in np.linspace(least or channels, channels, MOST_KEPT)})


def _coded(codec: Any, bottleneck: Array, keep: int | None) -> tuple[bytes, float, float]:
    """A packet, and milliseconds to write and to read it."""
    started = time.perf_counter()
    packet = write_packet(codec, bottleneck, keep)
    written = time.perf_counter()
    read_packet(codec, packet)
    return packet, 1000 * (written - started), 1000 * (time.perf_counter() - written)


def _timed(run: Callable[[], object], runs: int) -> float:
    run()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return _median_ms(seconds)


def _median_ms(seconds: Sequence[float]) -> float:
    return 1000 * statistics.median(seconds)
