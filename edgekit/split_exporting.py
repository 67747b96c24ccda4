"""A network cut in two: a head for the device, tails for the server, and what both must share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.backends.registry import backend_for
from edgekit.bundle import Bundle, new_folder, require_free, write_golden, write_manifest
from edgekit.contract import TensorSpec
from edgekit.errors import ParityError, UsageError
from edgekit.export_manifest import notes_of
from edgekit.exporting import Progress, manifest_fields, silent
from edgekit.model import RANDOM_WEIGHTS, Model
from edgekit.prepared import Prepared, prepare, require_no_errors
from edgekit.program.capture import without_torch_warnings
from edgekit.report import Report
from edgekit.split.bundle import (
    FIELD,
    GOLDEN_PACKET,
    NUMBERS,
    PACKET_SCHEMA,
    VALUES,
    SplitBundle,
    SplitFacts,
    output_name,
)
from edgekit.split.codec import CalibratedCodec, Codec, DynamicCodec, EntropyCodec
from edgekit.split.early_exit import EarlyExit, ExitHead, front_of_head
from edgekit.split.of_network import codec_of, make_tables
from edgekit.split.packet import MAGIC, VERSION, write_packet
from edgekit.split_parity import EXIT, LATENT, TAIL_PART, split_report
from edgekit.target import Target, find_target
from edgekit.zoo.split.attach import calibrate, split_at
from edgekit.zoo.split.factorised_prior import FactorisedPrior
from edgekit.zoo.split.network import SplitHead, SplitNetwork

BOTTLENECK = "bottleneck"
"""Where a network that has one is cut."""
SERVER_TARGET = "onnx"
SERVER_PRECISION = "fp32"
BOTH_GATE_DB = 30.0
"""As of all that is compressed."""


@dataclass(frozen=True)
class SplitOptions:
    precision: str | None = None
    """Of the head; None: the target's default. Tails are written in single precision."""
    verify: bool = True
    simplify: bool = True
    force: bool = False
    gate_db: float | None = None
    """Least PSNR of head and tail together; None: 30 dB."""
    early: EarlyExit | None = None
    """In the head's file, so that the device can answer by itself what it is sure of."""


class ExitingHead(nn.Module):
    """A head with an early exit on its own features: what is coded, and the exit's logits."""

    def __init__(self, head: nn.Module, front: nn.Module, early: ExitHead) -> None:
        super().__init__()
        self.head = head
        self.front = front
        self.early = early

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        # The front's modules are the head's: converters compute what both share once.
        return self.head(image), self.early(self.front(image))


class DeviceHead(nn.Module):
    """A head whose codes have an element type that the format takes: Core ML has no bytes."""

    def __init__(self, head: SplitHead, dtype: torch.dtype) -> None:
        super().__init__()
        self.head = head
        self.dtype = dtype

    def forward(self, image: Tensor) -> Tensor:
        made: Tensor = self.head(image)
        return made.to(self.dtype)


def split_network(model: Model, layer: str, pictures: Iterable[Tensor] | None) -> SplitNetwork:
    """The model cut behind a layer, calibrated on pictures if there are some; or as it is, if it is
    made of head and tails already and the layer is "bottleneck". Raises UsageError.
    """
    network = model.module
    if isinstance(network, SplitNetwork):
        if layer != BOTTLENECK:
            raise UsageError(
                f"{model.name} has a bottleneck and is cut there: give --split {BOTTLENECK}, not '{layer}'."
            )
        if pictures is not None:
            raise UsageError(f"{model.name} has its own quantiser; leave --calibrate away.")
        return with_tables(model)
    if len(model.example_inputs) != 1:
        raise UsageError(
            f"{model.name} takes {len(model.example_inputs)} inputs; a head takes one image."
        )
    split = split_at(network, layer, model.example_inputs[0])
    return split if pictures is None else calibrate(split, pictures)


def with_tables(model: Model) -> SplitNetwork:
    """A model's split network; of random weights, which measure only, with tables of their density."""
    network = model.module
    assert isinstance(network, SplitNetwork)
    prior = network.head.quantiser
    if (
        model.weights == RANDOM_WEIGHTS
        and isinstance(prior, FactorisedPrior)
        and not prior.has_tables
    ):
        make_tables(prior)
    return network


def split_folder(name: str, layer: str, target: Target, precision: str | None) -> Path:
    return Path(f"{name}-split-{layer}-{target.name}-{target.require_precision(precision)}.bundle")


def export_split(
    model: Model,
    network: SplitNetwork,
    layer: str,
    target: Target,
    folder: Path,
    options: SplitOptions = SplitOptions(),
    progress: Progress = silent,
) -> tuple[Bundle, Report | None]:
    """Write head, tails, shared numbers, the packet's schema and a golden packet; prove them.

    Raises:
        ConversionError: the target cannot hold the head, or ONNX a tail.
        MissingEnvironmentError: the folder cannot be written.
        ParityError: a part computes something else; no bundle is left behind.
        UsageError: the folder exists, the head has no numbers to code with yet, or it is no head.
    """
    require_free(folder, force=options.force)
    codec = codec_of(network)
    image = model.example_inputs[0]
    if len(image) != 1:
        raise UsageError(f"A head takes one image, and {model.name} was given {len(image)}.")
    head = network.head_for_device()
    tails = {name: network.tail_for_server(name) for name in network.tails}
    with torch.inference_mode():
        latent = head.latent(image)
        own = head(image)[0].numpy()
    progress("capture and rewrite")
    made = _head_model(model, head, codec, own, target, options.early)
    ready = prepare(made, target, options.precision)
    require_no_errors(ready, target)
    server = find_target(SERVER_TARGET)
    values = torch.from_numpy(_brought(codec, own))
    prepared = {
        name: prepare(_tail_model(model, name, tail, values), server, SERVER_PRECISION)
        for name, tail in tails.items()
    }
    for part in prepared.values():
        require_no_errors(part, server)
    device, suffix = backend_for(target.format), backend_for(server.format).suffix
    numbers = NUMBERS[network.head.quantiser.kind]
    channels, height, width = own.shape
    facts = SplitFacts(
        layer, network.head.quantiser.kind, codec.digest.hex(), channels, height, width,
        head=f"head{device.suffix}", head_output=made.outputs[0].name,
        tails={name: f"{'tail' if len(tails) == 1 else f'tail-{name}'}{suffix}" for name in tails},
        least_kept=network.drop.least, tail_gate_db=server.gate(SERVER_PRECISION).psnr_db,
        both_gate_db=BOTH_GATE_DB if options.gate_db is None else options.gate_db,
        head_hash=codec.head if isinstance(codec, DynamicCodec) else "",
        exit=_exit_facts(options.early),
    )  # fmt: skip
    with new_folder(folder, force=options.force) as partial:
        progress(f"convert the head to {target.format}")
        simplified = [_write(ready, partial / facts.head, target, model, options)]
        for name, part in prepared.items():
            progress(f"convert the tail '{name}'")
            simplified.append(_write(part, partial / facts.tails[name], server, made, options))
        if numbers is not None:
            _write_numbers(codec, partial / numbers)
        (partial / PACKET_SCHEMA).write_text(_schema(facts, codec), "utf-8")
        fields = manifest_fields(
            made, target, ready, "; ".join(dict.fromkeys(filter(None, simplified))), None
        ) | {
            "name": model.name, "family": model.recipe.family if model.recipe else None,
            **(model.recipe.contract.declared() if model.recipe else {}),
            "outputs": [spec.to_json() for spec in _outputs(prepared)],
            "model": facts.head, "gate": target.gate(ready.precision).to_json(),
            FIELD: facts.to_json(),
        }  # fmt: skip
        progress("golden packet")
        unproven = SplitBundle(Bundle(partial, fields))
        inputs = {fields["inputs"][0]["name"]: image.numpy()}
        packet = unproven.packet(inputs)
        (partial / GOLDEN_PACKET).write_bytes(packet)
        arrived = torch.from_numpy(unproven.arrived(packet).values)[None]
        parts = {
            TAIL_PART + name: value for name, value in _eager(tails, prepared, arrived).items()
        }
        expected = _eager(tails, prepared, values)
        if options.early is not None:
            with torch.inference_mode():
                parts[EXIT] = made.module(image)[1].numpy()
        write_golden(partial, inputs, expected, {LATENT: latent[0].numpy(), **parts})
        report = None
        if options.verify:
            progress("verify")
            report = split_report(unproven)
            if not report.passed:
                failed = [
                    f"{output.name}: {output.reason}" for output in report.outputs if output.reason
                ]
                raise ParityError(
                    f"The split files do not compute what the model computes: {' '.join(failed)} Export "
                    "with --no-verify to keep them."
                )
        fields["parity"] = report.to_json() if report else None
        manifest = write_manifest(partial, fields)
    return Bundle(folder, manifest), report


def _exit_facts(early: EarlyExit | None) -> dict[str, Any] | None:
    if early is None:
        return None
    return {"layer": early.layer, "output": EXIT, "threshold": early.threshold}


def _head_model(
    model: Model,
    head: SplitHead,
    codec: Codec,
    own: np.ndarray[Any, Any],
    target: Target,
    early: EarlyExit | None,
) -> Model:
    """Named as it lies in a bundle; in an element type that the target takes."""
    takes = backend_for(target.format).takes
    dtype = str(own.dtype) if str(own.dtype) in takes else "int32"
    coded = isinstance(codec, EntropyCodec | CalibratedCodec)
    meaning = "whole numbers for the coder" if coded else "values, which the coder quantises"
    output = TensorSpec(
        "symbols" if coded else VALUES, (1, *own.shape), dtype, axes="NCHW", meaning=meaning
    )
    module: nn.Module = head if dtype == str(own.dtype) else DeviceHead(head, getattr(torch, dtype))
    outputs = [output]
    if early is not None:
        module = ExitingHead(module, front_of_head(head, early.layer), early.head)
        classes = early.head.linear.out_features
        outputs.append(
            TensorSpec(
                EXIT, (1, classes), axes="NC", meaning="scores of the early exit, before softmax"
            )
        )
    inputs = model.inputs or (
        TensorSpec("image", tuple(model.example_inputs[0].shape), axes="NCHW", meaning="the model's own"),
    )  # fmt: skip
    return Model("head", module.eval(), model.example_inputs, inputs, tuple(outputs), model.weights)


def _tail_model(model: Model, name: str, tail: nn.Module, values: Tensor) -> Model:
    """The main tail has the model's outputs; others get the names that their graphs have."""
    given = TensorSpec(VALUES, tuple(values.shape), axes="NCHW", meaning="0 in channels that did not arrive")  # fmt: skip
    with torch.inference_mode():
        count = 1 if isinstance(tail(values), Tensor) else len(tail(values))
    outputs = model.outputs if len(model.outputs) == count else ()
    return Model(f"tail-{name}", tail, (values,), (given,), outputs, model.weights)


def _brought(codec: Codec, own: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the server gets of the model's own head, N C H W, by way of a packet."""
    from edgekit.split.packet import read_packet

    return read_packet(codec, write_packet(codec, own)).values[None]


def _write(part: Prepared, path: Path, target: Target, model: Model, options: SplitOptions) -> str:
    backend = backend_for(target.format)
    notes = notes_of(model, None, path.name, target)
    with without_torch_warnings():
        backend.write(part.program, path, target, half=part.precision != "fp32", notes=notes)
    if not options.simplify:
        return ""
    given = {
        spec.name: value.numpy()
        for spec, value in zip(part.program.inputs, _examples(part), strict=True)
    }
    return backend.simplify(path, given)


def _examples(part: Prepared) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(spec.shape, generator=generator) for spec in part.program.inputs]


def _outputs(prepared: Mapping[str, Prepared]) -> list[TensorSpec]:
    from dataclasses import replace

    return [
        replace(spec, name=output_name(name, spec.name, prepared))
        for name, part in prepared.items()
        for spec in part.program.outputs
    ]


def _eager(
    tails: Mapping[str, nn.Module], prepared: Mapping[str, Prepared], values: Tensor
) -> dict[str, Any]:
    """Outputs of all tails, by the names of the bundle."""
    found = {}
    with torch.inference_mode():
        for name, tail in tails.items():
            made = tail(values)
            listed = [made] if isinstance(made, Tensor) else list(made)
            for spec, value in zip(prepared[name].program.outputs, listed, strict=True):
                found[output_name(name, spec.name, tails)] = value.numpy()
    return found


def _write_numbers(codec: Codec, path: Path) -> None:
    if isinstance(codec, EntropyCodec):
        codec.tables.write(path)
    elif isinstance(codec, CalibratedCodec):
        codec.calibration.write(path)


def _schema(facts: SplitFacts, codec: Codec) -> str:
    """The header of every packet of this head, field by field, for whoever writes one on a phone."""
    sizes = {"channels": [1, facts.channels], "height": facts.height, "width": facts.width}
    schema = {
        "magic": MAGIC.hex(), "version": VERSION, "coding": codec.number,
        "coding_with_placement": codec.number | 0x80, "hash": codec.digest[:4].hex(), **sizes,
        "least_channels": facts.least_kept, "order": "C H W",
        "fields": [
            {"name": "magic", "bytes": 2}, {"name": "version", "bytes": 1},
            {"name": "coding", "bytes": 1}, {"name": "hash", "bytes": 4},
            {"name": "channels, height, width, payload bytes", "type": "LEB128"},
            {"name": "placement: source height and width, top and left (zigzag), height, width",
             "type": "LEB128", "if": "coding & 0x80"},
            {"name": "CRC-32 of the payload", "bytes": 4},
            {"name": "CRC-32 of all before", "bytes": 4}, {"name": "payload"},
        ],
    }  # fmt: skip
    return json.dumps(schema, indent=2) + "\n"
