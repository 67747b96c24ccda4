"""Each way of a network to its answer, measured here and carried over to a device."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from edgekit.backends.runnable import Array
from edgekit.detection.letterbox import Pixels
from edgekit.errors import UsageError
from edgekit.exporting import Progress
from edgekit.image_contract import Logits
from edgekit.model import RANDOM_WEIGHTS, Model
from edgekit.parity.layer_times import LayerCut, LayerTimes
from edgekit.split.bundle import SplitBundle
from edgekit.split.candidates import Candidate, Link
from edgekit.split.codec import Codec
from edgekit.split.early_exit import EarlyExit
from edgekit.split.latency_profile import LatencyProfile
from edgekit.split.of_network import codec_of
from edgekit.split.packet import Placement, read_packet, write_packet
from edgekit.split_pictures import Pictures, inputs_of, sized_contract
from edgekit.zoo.split.attach import split_at
from edgekit.zoo.split.network import SplitNetwork

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


class Measured:
    """Every way of one network, by what is asked of it; remembers what each way answered."""

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
        self._own_heads: set[str] = set()
        """Ways whose head is this network's own front, so that an exit can sit in it."""
        self._not_cut: list[str] = []
        """Layers where the modules' code cannot be cut, though the exported program could."""
        self._hidden = 0

    def notes(self) -> tuple[str, ...]:
        notes = [
            f"server: this machine ({self.times.reference}); device: {self.device_name}, "
            + (
                "the same" if self.device is None
                else f"by its profile, {self.slower:.2f} times as slow on the whole network"
            ),
        ]  # fmt: skip
        if self.pictures is None:
            notes.append("no pictures: bytes of JPEG, WebP and heads, and accuracy, are not known, and packets lack the picture's placement of some 10 bytes; --pictures FOLDER")  # fmt: skip
        else:
            notes.append(
                f"bytes on {len(self.pictures.pixels)} pictures; right by {self.pictures.truth}"
            )
        if self.model.weights == RANDOM_WEIGHTS and self.truth is not None:
            notes.append("the weights are random, so that accuracy and rates of exits mean nothing")
        if self._hidden:
            notes.append(
                f"{self._hidden} cuts are not listed: an earlier one sends no more bytes, or no feature map crosses"
            )
        if self._not_cut:
            notes.append(
                f"not listed, since the network cannot be cut there: {', '.join(self._not_cut)}; "
                "`edgekit export --split` says why"
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
        return inputs_of(pixels, self.contract)

    def _placed_inputs(self) -> list[tuple[Tensor, Placement | None]]:
        """Of the pictures, or the example."""
        if self.pictures is None or self.contract is None:
            return [(self.model.example_inputs[0], None)]
        inputs = self._inputs(self.pictures.pixels)
        return list(zip(inputs, self.pictures.placements, strict=True))

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

    def cuts(self, progress: Progress) -> list[Candidate]:
        """Behind feature maps of fewer bytes than those of all earlier cuts."""
        made: list[Candidate] = []
        least = float("inf")
        for cut in self.times.cuts:
            if len(cut.shape) != 4 or np.prod(cut.shape) >= least:
                self._hidden += 1
                continue
            progress(f"measure cuts ({len(made) + 1})")
            try:
                network = split_at(self.model.module, cut.layer, self.model.example_inputs[0])
            except UsageError:
                self._not_cut.append(cut.layer)
                continue
            # In training its quantiser would leave the features as they are.
            made.append(self._cut(network.eval(), cut))
            least = float(np.prod(cut.shape))
        return made

    def _cut(self, network: SplitNetwork, cut: LayerCut) -> Candidate:
        """As it is exported: the features in 8 bits of their own range."""
        example = self.model.example_inputs[0]
        with torch.inference_mode():
            bottleneck = network.head(example)[0].numpy()
        codec = codec_of(network)
        coded = [_coded(codec, bottleneck, None, place) for _, place in self._placed_inputs()]
        name = f"cut at {cut.layer}"
        self._own_heads.add(name)
        right = self._right(name, lambda: self._seen_classes(network))
        head_ms = self.on_device(cut.layer, cut.head_ms)
        return self._split(name, head_ms, coded, self.times.total_ms - cut.head_ms, right)

    def _split(
        self, name: str, head_ms: float, coded: Sequence[Coded], tail_ms: float, right: float | None
    ) -> Candidate:
        sizes = [len(one.packet) for one in coded]
        return Candidate(
            name, "split", self.before_ms, head_ms, self.slower * statistics.median(one.code_ms for one in coded),
            float(np.mean(sizes)), float(np.percentile(sizes, SLOW)),
            statistics.median(one.decode_ms for one in coded), tail_ms, self.options.queue_ms, right,
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
        with torch.inference_mode():
            seen = [
                (network.head(image)[0].numpy(), place) for image, place in self._placed_inputs()
            ]
        made = []
        for keep in _some_kept(network.drop.least, codec.channels):
            coded = [_coded(codec, bottleneck, keep, place) for bottleneck, place in seen]
            name = f"{self.model.name} keep {keep}"
            self._own_heads.add(name)
            right = self._right(name, lambda keep=keep: self._seen_classes(lambda x: network(x, keep=keep)))  # type: ignore[misc]  # fmt: skip
            made.append(
                self._split(name, head_ms, coded, self.times.total_ms - last.head_ms, right)
            )
        return made

    def head(self, split: SplitBundle) -> list[Candidate]:
        """One for each of some numbers of channels kept."""
        if split.bundle.format != "onnx":
            raise UsageError(
                f"{split.bundle.path.name} holds its head in the format {split.bundle.format}, which does not run "
                "here at a device's pace; export it with --target onnx to plan with it."
            )
        spec = split.bundle.inputs[0]
        if spec.shape != tuple(self.model.example_inputs[0].shape):
            raise UsageError(
                f"{split.bundle.path.name} takes {spec.shape}, and {self.model.name} is planned for "
                f"{tuple(self.model.example_inputs[0].shape)}."
            )
        images = [(image.numpy(), place) for image, place in self._placed_inputs()]
        head_ms = self.slower * _timed(
            lambda: split.bottleneck({spec.name: images[0][0]}), self.options.runs
        )
        seen = [(split.bottleneck({spec.name: image}), place) for image, place in images]
        zeros = np.zeros((split.facts.channels, split.facts.height, split.facts.width), np.float32)
        tail_ms = _timed(lambda: split.outputs(zeros), self.options.runs)
        kept = _some_kept(split.facts.least_kept, split.facts.channels)
        made = [self._kept(split, seen, keep, head_ms, tail_ms) for keep in kept]
        if self._is_front(split.facts.layer):
            self._own_heads |= {way.name for way in made}
        return made

    def _is_front(self, layer: str) -> bool:
        """Of this network, which a bottleneck that was put into it later is not."""
        if isinstance(self.model.module, SplitNetwork):
            return layer == "bottleneck"
        return layer in dict(self.model.module.named_modules())

    def _kept(
        self,
        split: SplitBundle,
        seen: Sequence[tuple[Array, Placement | None]],
        keep: int,
        head_ms: float,
        tail_ms: float,
    ) -> Candidate:
        coded = [_coded(split.codec, bottleneck, keep, place) for bottleneck, place in seen]
        name = f"{split.bundle.path.name.removesuffix('.bundle')} keep {keep}"

        def classes() -> np.ndarray[Any, Any]:
            values = (split.arrived(one.packet).values for one in coded)
            return np.array([int(next(iter(split.outputs(v).values())).argmax()) for v in values])

        return self._split(name, head_ms, coded, tail_ms, self._right(name, classes))

    def with_exit(self, early: EarlyExit, found: Sequence[Candidate]) -> list[Candidate]:
        """All on the device, and every split whose own head goes beyond the exit, with the exit before it."""
        cut = next((cut for cut in self.times.cuts if cut.layer == early.layer), None)
        if cut is None:
            raise UsageError(
                f"The exit sits at '{early.layer}', where {self.model.name} cannot be cut; train another."
            )
        if self.pictures is None or self.truth is None:
            raise UsageError("The rate of an early exit is measured on pictures of a classifier: --pictures FOLDER.")  # fmt: skip
        exit_ms = self.on_device(early.layer, cut.head_ms)
        self._require_as_many_classes(early)
        answers = early.answers(self.model.module, self._inputs(self.pictures.pixels))
        leaves = answers.confidence >= early.threshold
        behind = [way for way in found if way.name in self._own_heads and way.head_ms >= exit_ms]
        made = []
        for way in (found[0], *behind):
            classes = np.where(leaves, answers.classes, self._classes_by_way[way.name])
            name = f"exit at {early.layer}, else {way.name}"
            made.append(
                replace(
                    way, name=name, exit_rate=float(leaves.mean()), exit_ms=exit_ms,
                    accuracy=float(np.mean(classes == self.truth)),
                )
            )  # fmt: skip
        return made

    def _require_as_many_classes(self, early: EarlyExit) -> None:
        with torch.inference_mode():
            classes = self.model.module(self.model.example_inputs[0]).shape[1]
        if early.head.linear.out_features != classes:
            raise UsageError(
                f"The exit at '{early.layer}' knows {early.head.linear.out_features} classes, and {self.model.name} "
                f"{classes}: it was trained for another model; train one with `edgekit split exit`."
            )


def _slower(device: LatencyProfile | None, times: LayerTimes) -> float:
    if device is None:
        return 1.0
    if device.slower is not None:
        return device.slower
    return device.total_ms / times.total_ms


def _some_kept(least: int | None, channels: int) -> list[int]:
    """All, of a head that was not trained to lose some."""
    return sorted({round(k) for k in np.linspace(least or channels, channels, MOST_KEPT)})


@dataclass(frozen=True)
class Coded:
    packet: bytes
    code_ms: float
    decode_ms: float


def _coded(codec: Codec, bottleneck: Array, keep: int | None, placement: Placement | None) -> Coded:
    started = time.perf_counter()
    packet = write_packet(codec, bottleneck, keep, placement)
    written = time.perf_counter()
    read_packet(codec, packet)
    return Coded(packet, 1000 * (written - started), 1000 * (time.perf_counter() - written))


def _timed(run: Callable[[], object], runs: int) -> float:
    """Milliseconds: the least of the runs, as for the whole network."""
    run()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return 1000 * min(seconds)


def _median_ms(seconds: Sequence[float]) -> float:
    return 1000 * statistics.median(seconds)
