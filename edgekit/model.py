"""A Model: an eval-mode module with the contract of its inputs and outputs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.box_contract import Boxes
from edgekit.checkpoint import download_official, load_weights
from edgekit.contract import Size, TensorSpec
from edgekit.errors import UsageError, kind_and_line
from edgekit.factory_name import as_imported, is_file
from edgekit.image_contract import ImageContract
from edgekit.program.source import raised_at
from edgekit.recipe import Recipe
from edgekit.zoo.families import build_network

RANDOM_WEIGHTS = "random, seed 0"
EXAMPLE_SEED = 0


@dataclass(frozen=True)
class Codes:
    """How a quantised model holds its numbers."""

    weight_bits: int
    activation_bits: int | None
    """None: activations are floats."""
    layers: int
    """With weights in codes."""
    of_layers: int
    macs: int
    """Of those layers."""
    of_macs: int
    layer_bits: Mapping[str, int] = field(default_factory=dict)
    """Of each layer's weight, where they differ."""

    @property
    def integer_share(self) -> float:
        """Of all multiply-accumulates of layers."""
        return self.macs / max(1, self.of_macs)

    @property
    def overflows(self) -> bool:
        """Whether sums of two products of codes may pass 16 bits."""
        most = max(self.layer_bits.values(), default=self.weight_bits)
        return most == 8 and self.activation_bits is not None

    @property
    def label(self) -> str:
        """ "w8a8", or "w4" of weights alone, or "w3-7a8" where layers differ."""
        activations = "" if self.activation_bits is None else f"a{self.activation_bits}"
        bits = self.layer_bits.values() or (self.weight_bits,)
        spread = f"-{max(bits)}" if min(bits) < max(bits) else ""
        return f"w{min(bits)}{spread}{activations}"


@dataclass(frozen=True)
class Model:
    """Callable like its module; `example_inputs` are the seeded inputs that exports verify with."""

    name: str
    module: nn.Module
    example_inputs: tuple[Tensor, ...]
    inputs: tuple[TensorSpec, ...]
    """Empty for a module without a recipe: names then come from its graph."""
    outputs: tuple[TensorSpec, ...]
    weights: str
    """Where the weights came from, for the manifest."""
    recipe: Recipe | None = None
    codes: Codes | None = None
    """Of a quantised model."""

    @property
    def boxes(self) -> Boxes | None:
        """Of a detector."""
        contract = self.recipe.contract if self.recipe else None
        output = contract.output if isinstance(contract, ImageContract) else None
        return output if isinstance(output, Boxes) else None

    def __call__(self, *inputs: Tensor) -> Any:
        with torch.inference_mode():
            return self.module(*inputs)


def model_of_recipe(recipe: Recipe, weights: str | Path | None, size: Size) -> Model:
    """Build the network and load `weights`: a file, "hub", or None for the recipe's own.

    A recipe without bundled weights gets seeded random ones for None, good for measuring only.

    Raises:
        UsageError: the size or the checkpoint does not fit.
        MissingEnvironmentError: "hub" cannot be reached.
    """
    given, made = recipe.specs(size.height, size.width, size.frames)
    torch.manual_seed(EXAMPLE_SEED)
    network = build_network(recipe).eval()
    network.requires_grad_(False)
    source = _load(network, recipe, weights)
    return Model(recipe.name, network, (_example(given),), (given,), made, source, recipe)


def _example(spec: TensorSpec) -> Tensor:
    """Normal noise, or uniform noise over the declared range."""
    generator = torch.Generator().manual_seed(EXAMPLE_SEED)
    if spec.low is None or spec.span is None:
        return torch.randn(spec.shape, generator=generator)
    return torch.rand(spec.shape, generator=generator) * spec.span + spec.low


def _load(network: nn.Module, recipe: Recipe, weights: str | Path | None) -> str:
    if weights is None and (bundled := recipe.bundled_weights) is not None:
        if not bundled.is_file():
            raise UsageError(
                f"{recipe.name} has no {bundled.name} beside its recipe; give --weights."
            )
        load_weights(network, bundled)
        return bundled.name
    if weights is None:
        return RANDOM_WEIGHTS
    if str(weights) == "hub":
        if not recipe.weights.repository:
            raise UsageError(
                f"{recipe.name} is not on the hub; leave --weights away or give a file."
            )
        path = download_official(recipe.weights.repository, recipe.weights.file, None)
    else:
        path = Path(weights)
    matched = load_weights(network, path)
    own = recipe.weights.head_channels
    if own and matched.head_channels not in ((), own):
        raise UsageError(
            f"The weights file {path} has projection heads of {_listed(matched.head_channels)} channels, "
            f"and those of {recipe.name} have {_listed(own)}: it was trained for another teacher's latent."
        )
    return f"{path.name} ({matched.wrapping})" if matched.wrapping else path.name


def _listed(channels: tuple[int, ...]) -> str:
    return ", ".join(map(str, channels))


def model_of_module(
    module: nn.Module, example_inputs: Tensor | Sequence[Tensor], name: str = ""
) -> Model:
    """Any module, put in eval mode, with the inputs to capture it at. Raises UsageError."""
    examples = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    if not isinstance(examples, tuple | list) or not examples:
        raise UsageError("A module needs example_inputs: the tensors that its forward takes.")
    for example in examples:
        if not isinstance(example, Tensor):
            raise UsageError(
                f"An example input is of type {type(example).__name__}; a model takes tensors only."
            )
    examples = tuple(examples)
    label = name or type(module).__name__.lower()
    return Model(label, module.eval(), examples, (), (), "the module's own")


def model_of_factory(reference: str) -> Model:
    """`package.module:factory`, where factory() returns (module, example inputs).

    Random weights that the factory makes are seeded, so that each export is the same.

    Raises:
        UsageError: the module cannot be imported, or the factory fails or returns something else.
    """
    path, _, attribute = reference.partition(":")
    if not path or not attribute:
        raise UsageError(f"'{reference}' is not package.module:factory, such as mynet:make.")
    if is_file(path):
        imported = as_imported(path)
        raise UsageError(
            f"'{reference}' is a path; name the factory as Python imports it: {imported}:{attribute}, from the "
            f"folder that holds {imported.partition('.')[0]}."
        )
    if "" not in sys.path:
        sys.path.insert(0, "")  # the user's own file in the current folder
    torch.manual_seed(EXAMPLE_SEED)
    factory: Any = None
    try:
        factory = getattr(importlib.import_module(path), attribute)
        made = None if isinstance(factory, nn.Module) else factory()
    except ModuleNotFoundError as error:
        raise UsageError(f"The module '{error.name}' of '{reference}' cannot be found.") from error
    # Code of the user's: it may raise anything, and must not end the program with its own code.
    except (Exception, SystemExit) as error:
        if isinstance(error, AttributeError) and factory is None:
            raise UsageError(f"The module '{path}' has no '{attribute}'.") from error
        did = "calling it without arguments" if factory is not None else "importing it"
        where = raised_at(error)
        raise UsageError(
            f"'{reference}' cannot be used: {did} raised {kind_and_line(error)}"
            f"{f' ({where})' if where else ''}."
        ) from error
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise UsageError(
            f"'{reference}' must be a function that returns (module, example_inputs), for instance "
            "(net, (torch.zeros(1, 3, 224, 224),))."
        )
    return model_of_module(*made, attribute)
