"""Post-training quantisation: once, on the graph, for ONNX, Core ML and plans alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

from torch import Tensor
from torch.fx import Node

from edgekit.compress.adaquant import AdaQuant
from edgekit.compress.calibration import Inputs, as_arguments, histograms
from edgekit.compress.decided import Decided, LayerCodes
from edgekit.compress.error_feedback import ErrorFeedback
from edgekit.compress.even_norms import even_norms
from edgekit.compress.low_rank import with_branch
from edgekit.compress.places import TRANSPOSED, Layer, layers, quantised_values
from edgekit.compress.quantise_options import PLAIN, QuantiseOptions
from edgekit.compress.ranges import chosen_range
from edgekit.compress.side_by_side import Repair, repaired
from edgekit.compress.statistics_restored import restored
from edgekit.compress.weight_codes import weight_codes
from edgekit.compress.written_codes import written
from edgekit.errors import UsageError
from edgekit.model import Codes, Model
from edgekit.program.affine import Affine
from edgekit.program.capture import capture, without_torch_warnings
from edgekit.program.convertible import require_convertible
from edgekit.program.editing import GraphEditor, argument
from edgekit.program.program import Program
from edgekit.program.rule import rewrite
from edgekit.program.rules import rules_before_planning
from edgekit.program.rules.written_silu import WrittenSilu


def quantize(model: Model, data: Iterable[Inputs], options: QuantiseOptions = PLAIN) -> Model:
    """The model with weights, and by default activations, in codes of few bits.

    `data` are inputs like those it will meet, each a tensor or one per input, gone through once: some dozens
    are enough. What comes back runs in torch as the exported file will, so that `edgekit.export` proves the
    file against it; what the codes themselves cost, a comparison with the float model tells.

    Raises UsageError for a model without layers, or data that it cannot take.
    """
    with without_torch_warnings():
        return quantised(model, ready_program(model), data, options)


def quantised(
    model: Model, program: Program, data: Iterable[Inputs], options: QuantiseOptions
) -> Model:
    """Of a model whose program is ready. Raises UsageError."""
    return written(model, decide(prepare(program, data, options), options))


@dataclass(frozen=True)
class Prepared:
    """A graph in floats with all that its codes are decided by."""

    edit: GraphEditor
    layers: tuple[Layer, ...]
    """That may have codes."""
    of_layers: tuple[Layer, ...]
    kept: Sequence[tuple[Tensor, ...]]
    """Inputs for a repair."""
    roots: Mapping[Node, Node]
    """Values that become codes, each with the one whose scale it has."""
    values: Mapping[Node, Affine]


def prepare(program: Program, data: Iterable[Inputs], options: QuantiseOptions) -> Prepared:
    """Of a program that is ready: goes through the data once. Raises UsageError."""
    edit = GraphEditor(program)
    coming = (_taken(program, given) for given in data)
    kept = list(islice(coming, options.repair_inputs))
    if options.activation_bits is not None:
        even_norms(edit, kept, options.weight_bits)
    known = layers(edit)
    found = _chosen(known, options)
    integer = [layer for layer in found if is_integer(layer, options)]
    roots = {} if options.activation_bits is None else quantised_values(edit.graph, integer)
    values = _values(edit, roots, chain(kept, coming), options)
    return Prepared(edit, tuple(found), tuple(known), kept, roots, values)


def decide(prepared: Prepared, options: QuantiseOptions) -> Decided:
    edit, found, known = prepared.edit, prepared.layers, prepared.of_layers
    bits = {layer.name: options.bits_of(layer.name) for layer in found}
    codes = {layer.node: codes_of(edit, layer, bits[layer.name], options) for layer in found}
    if options.repair != "nothing" and not options.rank:
        pairs = {layer.node: (layer, codes[layer.node]) for layer in found}
        repair = _repair(edit, found, options)
        codes = repaired(edit, pairs, prepared.values, prepared.kept, repair)
    summary = Codes(
        options.weight_bits, options.activation_bits, len(found), len(known),
        sum(layer.macs for layer in found), sum(layer.macs for layer in known),
        bits if options.layer_bits else {},
    )  # fmt: skip
    return Decided(edit, found, codes, prepared.values, summary)


def _taken(program: Program, given: Inputs) -> tuple[Tensor, ...]:
    """Raises UsageError for what the network does not take."""
    is_tensors = isinstance(given, Tensor) or all(isinstance(one, Tensor) for one in given)
    values = as_arguments(given) if is_tensors else ()
    shapes = [tuple(value.shape) for value in values]
    if shapes != [spec.shape for spec in program.inputs]:
        wanted = ", ".join(str(spec.shape) for spec in program.inputs)
        got = ", ".join(map(str, shapes)) or type(given).__name__
        raise UsageError(f"The network takes {wanted}, and the data to calibrate with has {got}.")
    return values


def ready_program(model: Model) -> Program:
    """As files have it: norms folded into layers, activations that integer kernels know."""
    captured = capture(model.module, model.example_inputs, model.inputs, model.outputs)
    require_convertible(captured.program)
    return rewrite(captured.program, [*rules_before_planning(), WrittenSilu()])[0]


def _chosen(known: list[Layer], options: QuantiseOptions) -> list[Layer]:
    names = [layer.name for layer in known]
    named = {*options.float_layers, *options.weights_alone, *options.layer_bits}
    if unknown := named - set(names):
        raise UsageError(f"There is no layer '{min(unknown)}'; there are {', '.join(names)}.")
    total = sum(layer.macs for layer in known)
    found = [
        layer
        for layer in known
        if layer.macs >= options.least_share * total
        and layer.channels >= options.least_channels
        and layer.name not in options.float_layers
    ]
    if not found:
        raise UsageError("There is nothing to quantise: no convolution or matrix product is left.")
    return found


def codes_of(edit: GraphEditor, layer: Layer, bits: int, options: QuantiseOptions) -> LayerCodes:
    """Of its weight, not repaired."""
    weight = _weight(edit, layer)
    bias = edit.constant_value(argument(layer.node, 2))
    coded = partial(weight_codes, axis=layer.axis, bits=bits, choice=options.weight_range)
    if not options.rank or not layer.takes_branch:
        return LayerCodes(coded(weight), bias)
    codes, branch = with_branch(weight, options.rank, coded)
    return LayerCodes(codes, bias, branch)


def _values(
    edit: GraphEditor, roots: Mapping[Node, Node], data: Iterable[Inputs], options: QuantiseOptions
) -> Mapping[Node, Affine]:
    bits = options.activation_bits or 8
    seen = histograms(edit.module, set(roots.values()), data)
    ranges = {
        node: Affine.of_range(
            *chosen_range(values, options.activation_range, options.percentile, bits),
            bits, signed=options.signed,
        )
        for node, values in seen.items()
    }  # fmt: skip
    return {node: ranges[root] for node, root in roots.items()}


def is_integer(layer: Layer, options: QuantiseOptions) -> bool:
    """Whether it reads and gives codes."""
    return layer.node.target not in TRANSPOSED and layer.name not in options.weights_alone


def _repair(edit: GraphEditor, found: Sequence[Layer], options: QuantiseOptions) -> Repair:
    if options.repair == "statistics":
        return restored
    weights = {layer.name: _weight(edit, layer) for layer in found}
    return (
        ErrorFeedback(weights) if options.repair == "feedback" else AdaQuant(weights, options.steps)
    )


def _weight(edit: GraphEditor, layer: Layer) -> Tensor:
    weight = edit.constant_value(argument(layer.node, 1))
    assert weight is not None
    return weight
