from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_decoder import EXPECTED, Decoder, equal, official_extras, prefixed, weights
from torch import Tensor

from edgekit.checkpoint import read_checkpoint
from edgekit.errors import UsageError
from edgekit.weight_matching import match_weights


def mismatch(checkpoint: dict[str, object] | dict[str, Tensor]) -> str:
    with pytest.raises(UsageError) as caught:
        match_weights(checkpoint, EXPECTED, "student.pth")
    message = str(caught.value)
    assert "student.pth" in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "decoder.",
        "module.",
        "_orig_mod.",
        "module.decoder.",
        "_orig_mod.module.",
        "decoder._orig_mod.",
    ],
)
def test_prefixes_of_wrappers_are_removed_and_reported(prefix: str) -> None:
    matched = match_weights(prefixed(prefix, weights()), EXPECTED, "w.pth")
    assert equal(matched.state, weights())
    assert matched.wrapping == "plain state dict" + (f", prefix {prefix}" if prefix else "")
    assert matched.ignored == ()


def training_run(ema: object) -> dict[str, object]:
    return {
        "epoch": 2,
        "current_step": 1000,
        "optimizer_state": {
            "gen": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4}]}
        },
        "state_dict": {
            "gen_model": prefixed("module.decoder.", weights(1)),
            "dics_model": {"net.weight": torch.ones(2)},
        },
        "ema_state_dict": ema,
        "scaler_state": {},
    }


def test_a_training_run_gives_its_moving_average(tmp_path: Path) -> None:
    path = tmp_path / "step.pth"
    torch.save(training_run(prefixed("module.", weights(2)) | official_extras()), path)
    matched = match_weights(read_checkpoint(path), EXPECTED, path)
    assert equal(matched.state, weights(2))
    assert matched.wrapping == "ema_state_dict (EMA weights), prefix module."


@pytest.mark.parametrize("ema", [None, {}])
def test_a_training_run_without_moving_average_gives_the_generator(ema: object) -> None:
    matched = match_weights(training_run(ema), EXPECTED, "w.pth")
    assert equal(matched.state, weights(1))
    assert matched.wrapping == "state_dict.gen_model, prefix module.decoder."


def test_torch_averaged_models_are_read() -> None:
    averaged = torch.optim.swa_utils.AveragedModel(Decoder())
    matched = match_weights({"ema": averaged.state_dict()}, EXPECTED, "w.pth")
    assert equal(matched.state, dict(averaged.module.state_dict()))
    assert matched.ignored == ("1 averaging counter tensors (n_averaged)",)


def test_heads_statistics_and_encoder_are_counted_and_left_out() -> None:
    state = prefixed("decoder.", weights() | official_extras()) | {
        f"encoder.{i}.weight": torch.full((1,), torch.nan) for i in range(5)
    }
    matched = match_weights(state, EXPECTED, "w.pth")
    assert equal(matched.state, weights())
    assert matched.ignored == (
        "2 projection head tensors (decoder.aligned_feature_projection_heads.0.0.conv.weight, "
        "decoder.aligned_feature_projection_heads.0.0.conv.bias)",
        "2 latent statistic tensors (decoder.latents_mean, decoder.latents_std)",
        "5 encoder tensors (encoder.0.weight, encoder.1.weight, encoder.2.weight and 2 more)",
    )


def test_a_model_with_its_own_encoder_and_decoder_keeps_their_names() -> None:
    state = {"encoder.w": torch.ones(1), "decoder.w": torch.zeros(1)}
    expected = {key: value.shape for key, value in state.items()}
    assert equal(match_weights(prefixed("module.", state), expected, "w").state, state)
    with pytest.raises(UsageError, match=r"does not have \(encoder.v\)"):
        match_weights(state | {"encoder.v": torch.ones(1)}, expected, "w")


def test_missing_keys_are_listed_with_their_number() -> None:
    state = {key: value for key, value in weights().items() if "conv_in" not in key}
    assert (
        "lacks 2 of the 4 tensors of this model (conv_in.conv.weight, conv_in.conv.bias)"
        in mismatch(state)
    )


def test_a_file_of_another_model_shows_its_own_keys_too() -> None:
    message = mismatch(prefixed("generator.", weights()))
    assert "lacks 4 of the 4" in message
    assert "and 1 more" in message
    assert "generator.conv_in.conv.weight" in message


def test_an_unknown_key_is_named() -> None:
    message = mismatch(weights() | {"decoder.norm.weight": torch.ones(1)})
    assert "1 tensors that this model does not have (decoder.norm.weight)" in message


def test_the_same_tensor_under_two_names_is_refused() -> None:
    message = mismatch(weights() | {"decoder.conv_out.conv.bias": torch.ones(3)})
    assert "twice, as conv_out.conv.bias and as decoder.conv_out.conv.bias" in message


def test_a_wrong_shape_names_key_and_both_shapes() -> None:
    message = mismatch(prefixed("module.", weights() | {"conv_out.conv.bias": torch.ones(4)}))
    assert "module.conv_out.conv.bias of shape (4,) where this model has (3,)" in message


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_counted_and_located(bad: float) -> None:
    state = weights()
    state["conv_in.conv.bias"][[1, 4]] = bad
    message = mismatch(state)
    assert "2 values that are NaN or infinite of 6 in conv_in.conv.bias" in message


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_tensors_that_are_not_floating_are_refused(dtype: torch.dtype) -> None:
    message = mismatch(weights() | {"conv_out.conv.bias": torch.ones(3, dtype=dtype)})
    assert f"conv_out.conv.bias as {dtype}" in message


def test_sparse_tensors_are_refused() -> None:
    assert "torch.sparse_coo" in mismatch(
        weights() | {"conv_out.conv.bias": torch.ones(3).to_sparse()}
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "w.safetensors"
    save_file({key: value.to(dtype) for key, value in weights().items()}, path)
    matched = match_weights(read_checkpoint(path), EXPECTED, path)
    assert equal(matched.state, {k: v.to(dtype).float() for k, v in weights().items()})


def test_tensors_in_unknown_places_are_reported_with_the_entries_seen() -> None:
    message = mismatch({"discriminator": {"w": torch.ones(1)}, "epoch": 1})
    assert "its entries: discriminator, epoch" in message


def test_the_width_of_projection_heads_is_read_in_their_order() -> None:
    heads = {
        f"decoder.aligned_feature_projection_heads.{index}.0.conv.weight": torch.ones(
            width, 2, 1, 1, 1
        )
        for index, width in ((1, 6), (0, 4), (10, 8))
    }
    assert match_weights({**weights(), **heads}, EXPECTED, "w.pth").head_channels == (4, 6, 8)
    assert match_weights(weights(), EXPECTED, "w.pth").head_channels == ()
