"""The model's own tensors out of whatever a checkpoint wraps them in.

The wrappings that are undone are those of published and training checkpoints of video decoders:
data parallel (`module.`), torch.compile (`_orig_mod.`), a full autoencoder (`decoder.`), and the
dictionaries of training, with the generator and its moving average (EMA) beside the optimiser.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edgekit.errors import UsageError

# In order of preference: the moving average gives the better pictures, so it wins.
_AVERAGED = ("ema_state_dict", "state_dict_ema", "params_ema", "ema")
_TRAINED = ("state_dict", "model_state_dict", "gen_model", "model", "params")
_KEY_WRAPPERS = ("module.", "_orig_mod.", "decoder.")

# What official files carry beside a decoder: (start of the key, what it is).
_RECOGNISED = (
    ("aligned_feature_projection_heads.", "projection head"),
    ("latents_mean", "latent statistic"),
    ("latents_std", "latent statistic"),
    ("encoder.", "encoder"),
    ("n_averaged", "averaging counter"),
)
_HEAD_WEIGHT = re.compile(r"aligned_feature_projection_heads\.(\d+)\.0\.conv\.weight$")
_MAX_NESTING = 6  # real files nest twice; a pickle may also refer to itself


@dataclass(frozen=True)
class MatchedWeights:
    """Tensors by the model's own names, in float32; they may be views of the mapped file."""

    state: dict[str, Tensor]
    wrapping: str  # e.g. "ema_state_dict (EMA weights), prefix module."
    ignored: tuple[
        str, ...
    ]  # e.g. "4 projection head tensors (aligned_feature_projection_heads.0...)"
    head_channels: tuple[int, ...] = ()
    """Output channels of the projection heads beside a decoder, in order; empty without heads."""


def match_weights(
    checkpoint: Mapping[str, object],
    expected: Mapping[str, torch.Size],
    file: str | Path,
    integer_keys: Collection[str] = (),
) -> MatchedWeights:
    """The expected tensors out of the checkpoint, each present once, finite and of the right shape.

    `file` names the source in errors; `integer_keys` are expected buffers that hold counts.
    """
    level, path = _innermost_state(checkpoint, file)
    found: dict[str, tuple[str, Tensor]] = {}
    unknown: list[str] = []
    ignored: dict[str, list[str]] = {}
    prefixes: set[str] = set()
    for key, tensor in level.items():
        if not isinstance(tensor, Tensor) or not isinstance(key, str):
            ignored.setdefault("entries that are no named tensor", []).append(str(key))
            continue
        prefix, name = _bare_name(key, expected)
        if name in found:
            raise UsageError(
                f"The weights file {file} holds {name} twice, as {found[name][0]} and as {key}; "
                "keep only one of the two."
            )
        if name in expected:
            found[name] = (key, tensor)
            prefixes.add(prefix)
        elif (kind := _recognised(name, expected)) is not None:
            ignored.setdefault(kind, []).append(key)
        else:
            unknown.append(key)
    _require_all(expected, found, unknown, file)
    if unknown:
        raise UsageError(
            f"The weights file {file} holds {len(unknown)} tensors that this model does not have "
            f"({_some(unknown)}); check that it belongs to this model and size."
        )
    _require_shapes(expected, found, file)
    state = {
        name: found[name][1] if name in integer_keys else _finite_float32(*found[name], file)
        for name in expected
    }
    return MatchedWeights(
        state,
        _wrapping(path, prefixes),
        tuple(f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in ignored.items()),
        _head_channels(level),
    )


def _head_channels(level: Mapping[str, object]) -> tuple[int, ...]:
    heads = {
        int(found[1]): len(value)
        for key, value in level.items()
        if (found := _HEAD_WEIGHT.search(str(key))) and isinstance(value, Tensor) and value.ndim
    }
    return tuple(heads[index] for index in sorted(heads))


def _innermost_state(
    checkpoint: Mapping[str, object], file: str | Path
) -> tuple[Mapping[str, object], list[str]]:
    """The dictionary that holds the tensors, and the names on the way to it."""
    level, path = checkpoint, list[str]()
    while len(path) < _MAX_NESTING and (inner := _inner_state(level)) is not None:
        path.append(inner[0])
        level = inner[1]
    if not any(isinstance(value, Tensor) for value in level.values()):
        raise UsageError(
            f"The weights file {file} has tensors, but none under a name edgekit knows for model "
            f"weights ({entries(level)}); save the model's state_dict() on its own."
        )
    return level, path


def _inner_state(level: Mapping[str, object]) -> tuple[str, Mapping[str, object]] | None:
    for key in (*_AVERAGED, *_TRAINED):
        value = level.get(key)
        if isinstance(value, Mapping) and holds_tensor(value):
            return key, value
    return None


def holds_tensor(value: object, nesting: int = 0) -> bool:
    """Whether a tensor lies in the value or in the dictionaries within it."""
    if isinstance(value, Mapping) and nesting < _MAX_NESTING:
        return any(holds_tensor(inner, nesting + 1) for inner in value.values())
    return isinstance(value, Tensor)


def _bare_name(key: str, expected: Collection[str]) -> tuple[str, str]:
    """Prefix and name. A model that has a part called `decoder` itself keeps that name."""
    name = key
    while name not in expected:
        wrapper = next((w for w in _KEY_WRAPPERS if name.startswith(w)), None)
        if wrapper is None:
            break
        name = name.removeprefix(wrapper)
    return key[: len(key) - len(name)], name


def _recognised(name: str, expected: Collection[str]) -> str | None:
    for start, kind in _RECOGNISED:
        if name.startswith(start) and not any(key.startswith(start) for key in expected):
            return f"{kind} tensors"
    return None


def _require_all(
    expected: Mapping[str, torch.Size],
    found: Collection[str],
    unknown: Collection[str],
    file: str | Path,
) -> None:
    missing = [name for name in expected if name not in found]
    if missing:
        others = (
            f", and holds {len(unknown)} that it does not have ({_some(unknown)})"
            if unknown
            else ""
        )
        raise UsageError(
            f"The weights file {file} lacks {len(missing)} of the {len(expected)} tensors of this "
            f"model ({_some(missing)}){others}; check that it belongs to this model and size."
        )


def _require_shapes(
    expected: Mapping[str, torch.Size], found: Mapping[str, tuple[str, Tensor]], file: str | Path
) -> None:
    wrong = [name for name, shape in expected.items() if found[name][1].shape != shape]
    if wrong:
        key, tensor = found[wrong[0]]
        more = f" ({len(wrong) - 1} more tensors differ)" if len(wrong) > 1 else ""
        raise UsageError(
            f"The weights file {file} holds {key} of shape {tuple(tensor.shape)} where this model "
            f"has {tuple(expected[wrong[0]])}{more}; check that it belongs to this model and size."
        )


def _finite_float32(key: str, tensor: Tensor, file: str | Path) -> Tensor:
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
        raise UsageError(
            f"The weights file {file} holds {key} as {tensor.dtype} ({tensor.layout}, "
            f"{tensor.device}), not as plain floating-point numbers; save the weights before "
            "quantisation or sparsification."
        )
    converted = tensor.detach().to(torch.float32)
    broken = converted.numel() - int(converted.isfinite().sum())
    if broken:
        raise UsageError(
            f"The weights file {file} holds {broken} values that are NaN or infinite of "
            f"{converted.numel()} in {key}; the training diverged or the file is damaged, "
            "so take an earlier checkpoint."
        )
    return converted


def _wrapping(path: list[str], prefixes: Collection[str]) -> str:
    where = ".".join(path) if path else "plain state dict"
    averaged = " (EMA weights)" if any(key in _AVERAGED for key in path) else ""
    shown = sorted(prefix for prefix in prefixes if prefix)
    return where + averaged + (f", prefix {' and '.join(shown)}" if shown else "")


def _some(names: Collection[str]) -> str:
    first = list(names)[:3]
    return ", ".join(first) + (f" and {len(names) - len(first)} more" if len(names) > 3 else "")


def entries(level: Mapping[str, object]) -> str:
    """The dictionary's first keys, for an error."""
    return f"its entries: {_some([str(key) for key in level])}" if level else "it has no entries"
