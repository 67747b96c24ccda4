"""`edgekit.prune`: a narrower or sparser model, its folder on the disk, and training that brings quality back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from edgekit.bundle import new_folder
from edgekit.compress.blocks.options import BlockOptions
from edgekit.compress.blocks.sparse import BlockPruned, block_prune_model
from edgekit.compress.pruning.compensation import nearest
from edgekit.compress.pruning.importance import Batch
from edgekit.compress.pruning.options import PruneOptions
from edgekit.compress.pruning.pruned import Pruned, prune_model
from edgekit.compress.pruning.quality import quality
from edgekit.distillation.network_inputs import Inputs
from edgekit.distillation.recovery import recover
from edgekit.distillation.run_folder import save_student
from edgekit.errors import UsageError
from edgekit.model import Model, model_of_module
from edgekit.recipe import is_recipe_folder
from edgekit.recipe_file import recipe_text

REPORT = "pruning.json"
Narrower = TypeVar("Narrower", bound=Pruned | BlockPruned)


def prune(
    model: Model | nn.Module,
    options: PruneOptions | BlockOptions | None = None,
    data: Sequence[Tensor | Batch] | None = None,
    *,
    progress: Callable[[str], None] = lambda _line: None,
) -> Model:
    """A copy of the model with fewer channels, or with `BlockOptions` with blocks of zeros in linear layers.

    It is in eval mode and untrained since; `edgekit prune --help`.

    Args:
        model: or any module, whose inputs are those of the first batch; with a loss, the first of each.
        data: batches of the model's inputs, to measure on what does least harm.

    Raises:
        UsageError: no channel of the network can be told to be free.
    """
    if not isinstance(model, Model):
        if not data:
            raise UsageError(
                "A module that is no Model is pruned with data: batches of its inputs."
            )
        first = data[0]
        labelled = isinstance(options, PruneOptions) and options.loss is not None
        if labelled and not isinstance(first, Tensor):
            first = first[0]
        model = model_of_module(model, first)
    if isinstance(options, BlockOptions):
        return block_prune_model(model, options, data, progress).model
    return prune_model(model, options or PruneOptions(), data, progress).model


def is_pruned(folder: Path) -> bool:
    """Whether the folder is an earlier pruning's, which may be replaced."""
    return is_recipe_folder(folder) and (folder / REPORT).is_file()


def write_pruned(pruned: Pruned | BlockPruned, folder: Path, *, force: bool = False) -> None:
    """A recipe with its weights, which stands wherever a model's name does, and `pruning.json`.

    Raises:
        UsageError: the model has no recipe, or the folder exists.
        MissingEnvironmentError: the folder cannot be written.
    """
    model = pruned.model
    if model.recipe is None:
        raise UsageError(
            f"{model.name} has no recipe to build it from again; keep its module in Python, as edgekit.prune gives it."
        )
    weights = f"{model.recipe.name}.safetensors"
    text = recipe_text(model.recipe, weights)
    with new_folder(folder, force=force, ours=is_pruned) as partial:
        (partial / f"{model.recipe.name}.toml").write_text(text, encoding="utf-8")
        save_student(model.module.state_dict(), partial / weights)
        report = json.dumps(pruned.to_json(), indent=2, allow_nan=False)
        (partial / REPORT).write_text(report + "\n", encoding="utf-8")


def recovered(
    pruned: Narrower,
    whole: Model,
    training: Inputs,
    steps: int,
    measured_on: Sequence[Tensor],
    *,
    run: Path,
    resume: bool = False,
    workers: int = 0,
    progress: Callable[[str], None] = lambda _line: None,
) -> Narrower:
    """The same, trained to match the whole model, with the quality that it has then; blocks of zeros stay zeros.

    Raises what `distill` raises.
    """
    model = recover(
        pruned.model, whole, training, steps, run=run, resume=resume, workers=workers,
        zeros_stay=isinstance(pruned, BlockPruned), progress=progress,
    )  # fmt: skip
    batches = [(batch,) for batch in measured_on]
    model = replace(model, module=nearest(whole.module, [model.module], batches))
    found = quality(whole.module, model.module, batches)
    return replace(pruned, model=model, quality=found, untrained=pruned.quality, steps=steps)
