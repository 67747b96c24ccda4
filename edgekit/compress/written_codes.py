"""Decided codes written into the graph, as a Model that runs in torch and exports."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from edgekit.compress.decided import Decided, LayerCodes
from edgekit.compress.low_rank import LowRank
from edgekit.compress.places import TRANSPOSED, Layer
from edgekit.model import Model
from edgekit.program.affine import (
    Affine,
    WeightCodes,
    along,
    stored_codes,
    stored_sums,
    through_codes,
)
from edgekit.program.editing import GraphEditor, argument, arguments_of

aten = torch.ops.aten
LARGEST_BIAS = 2**30
"""In codes: a sum of 32 bits has as much left for the products."""


def written(model: Model, decided: Decided) -> Model:
    edit = decided.edit
    for layer in decided.layers:
        codes = decided.codes[layer.node]
        _write_layer(edit, layer, codes, decided.values.get(layer.source))
        if codes.branch is not None:
            _write_branch(edit, layer, codes.branch)
    for value, affine in decided.values.items():
        _write_value(edit, value, affine)
    program = edit.finish()
    unlifted = program.exported.module(check_guards=False)
    assert isinstance(unlifted, GraphModule)
    module = GraphModule(unlifted, unlifted.graph).eval()  # the former refuses eval()
    return replace(
        model, module=module, inputs=program.inputs, outputs=program.outputs, codes=decided.summary
    )


def _write_layer(edit: GraphEditor, layer: Layer, codes: LayerCodes, read: Affine | None) -> None:
    node, bias = layer.node, codes.bias
    with edit.replacing(node):
        if bias is None or read is None or node.target in TRANSPOSED:
            weight = stored_codes(edit, codes.weight)
            added = None if bias is None else edit.constant(bias)
        else:
            coarse = coarse_enough(codes.weight, bias, read.scale)
            weight = stored_codes(edit, coarse)
            added = stored_sums(edit, bias, coarse.scales * read.scale)
    node.args = (node.args[0], weight, added, *node.args[3:])


def coarse_enough(weight: WeightCodes, bias: Tensor, read_scale: float) -> WeightCodes:
    """With scales at which a sum holds the bias: of a channel of zeros, none of its weights' would."""
    scales = torch.maximum(weight.scales, bias.abs() / (read_scale * LARGEST_BIAS))
    factor = along(weight.scales / scales, weight.codes, weight.axis)
    codes = torch.round(weight.codes * factor).to(torch.int8)
    return replace(weight, codes=codes, scales=scales)


def _write_branch(edit: GraphEditor, layer: Layer, branch: LowRank) -> None:
    """Beside the layer: down to the rank as the layer reads, up as a product for each place."""
    node = layer.node
    taps = argument(node, 1).meta["val"].shape[1:]
    down = branch.down.reshape(-1, *taps)
    up = branch.up.reshape(*branch.up.shape, *[1] * (len(taps) - 1))
    readers = list(node.users)
    with edit.replacing(node), edit.graph.inserting_before(node.next):
        first = edit.call(
            node.target, node.args[0], edit.constant(down), None, *arguments_of(node)[3:]
        )
        second = edit.call(node.target, first, edit.constant(up))
        total = edit.call(aten.add.Tensor, node, second)
    for reader in readers:
        reader.replace_input_with(node, total)


def _write_value(edit: GraphEditor, value: Node, affine: Affine) -> None:
    readers = list(value.users)
    with edit.replacing(value), edit.graph.inserting_before(value.next):
        coded = through_codes(edit, value, affine)
    for reader in readers:
        reader.replace_input_with(value, coded)
