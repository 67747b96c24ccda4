from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from golden_split import fill, golden, worst_difference

from edgekit.errors import UsageError
from edgekit.split.codec import EntropyCodec, Sizes
from edgekit.split.of_network import make_tables, tables_of
from edgekit.split.quantised_cdf import quantised_cdf
from edgekit.split.tables import Tables
from edgekit.zoo.split.entropic_student import entropic_student
from edgekit.zoo.split.factorised_prior import WIDEST_TABLE, FactorisedPrior

FILES = ["fp_entropy", "fp_entropy_narrow"]


def filled(name: str) -> tuple[FactorisedPrior, Any, torch.Tensor]:
    vectors = golden(name)
    prior = FactorisedPrior(vectors["latent"].shape[1], float(vectors["init_scale"]))
    fill(prior, vectors, float(vectors["init_scale"]))
    return prior, vectors, torch.from_numpy(vectors["latent"])


@pytest.mark.parametrize("name", FILES)
def test_likelihoods_and_rounding_are_the_official_ones(name: str) -> None:
    prior, vectors, latent = filled(name)
    with torch.no_grad():
        rounded = prior.eval()(latent)
        assert np.array_equal(rounded, vectors["latent_hat"])
        found = prior.likelihoods(rounded)
        np.testing.assert_allclose(found, vectors["likelihood_hat"], rtol=0, atol=1e-6)
        assert -found.log2().sum() == pytest.approx(float(vectors["bits_hat"]), rel=1e-4)
        grid = torch.from_numpy(vectors["grid"]).repeat(prior.channels, 1, 1)
        assert worst_difference(prior.logits(grid)[:, 0], vectors, "logits_grid") < 1e-5
        assert np.array_equal(
            prior.sent(latent) + prior.medians[:, None, None], vectors["latent_hat"]
        )


@pytest.mark.parametrize("name", FILES)
def test_bits_and_their_gradients_are_the_official_ones(name: str) -> None:
    prior, vectors, latent = filled(name)
    latent.requires_grad_()
    found = prior.likelihoods(latent)
    np.testing.assert_allclose(found.detach(), vectors["likelihood_at"], rtol=0, atol=1e-6)
    bits = -found.log2().sum()
    bits.backward()
    assert bits.item() == pytest.approx(float(vectors["bits_at"]), rel=1e-4)
    for tensor, key in (
        (latent, "latent"), (prior.matrices[1], "matrices1"), (prior.biases[0], "biases0"),
        (prior.factors[2], "factors2"),
    ):  # fmt: skip
        assert tensor.grad is not None
        assert worst_difference(tensor.grad, vectors, f"bits_at_grad_{key}") < 1e-3


@pytest.mark.parametrize("name", FILES)
def test_the_auxiliary_loss_moves_quantiles_alone(name: str) -> None:
    prior, vectors, _ = filled(name)
    error = prior.quantile_error()
    error.backward()
    assert error.item() == pytest.approx(float(vectors["aux_loss"]), rel=1e-5)
    assert prior.quantiles.grad is not None
    assert worst_difference(prior.quantiles.grad, vectors, "aux_grad_quantiles") < 1e-4
    assert all(p.grad is None for key, p in prior.named_parameters() if key != "quantiles")
    assert all(p.requires_grad for p in prior.parameters())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("way", ["plain", "bisect"])
def test_tables_are_the_official_ones_where_those_do_not_depend_on_the_machine(
    name: str, way: str
) -> None:
    prior, vectors, _ = filled(name)
    expected = {key: vectors[f"{way}.{key}"] for key in ("offset", "cdf_length", "pmf", "margin")}
    made = make_tables(prior, bisect=way == "bisect")
    np.testing.assert_allclose(made.medians, vectors[f"{way}.medians"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        prior.quantiles.detach(), vectors[f"{way}.quantiles"], rtol=0, atol=1e-4
    )
    assert list(made.offsets) == expected["offset"].tolist()
    lengths = expected["cdf_length"].tolist()
    assert [len(ends) + 1 for ends in made.lower_ends] == lengths
    rows, _ = prior.table_probabilities()
    equal = 0
    for channel, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        np.testing.assert_allclose(row, expected["pmf"][channel, : length - 1], rtol=0, atol=3e-7)
        own = [*made.lower_ends[channel], 65536]
        official = vectors[f"{way}.quantized_cdf"][channel, :length].tolist()
        exact = vectors[f"{way}.quantized_cdf_f64"][channel, :length].tolist()
        assert quantised_cdf(expected["pmf"][channel, : length - 1]) == official
        if expected["margin"][channel] > 0.02:
            assert own == official == exact, channel
        equal += own in (official, exact)
    assert equal >= len(rows) - 2


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("way", ["plain", "bisect"])
def test_streams_from_the_stored_tables_are_the_official_bytes(name: str, way: str) -> None:
    _, vectors, latent = filled(name)
    tables = Tables.from_rows(
        vectors[f"{way}.quantized_cdf"], vectors[f"{way}.cdf_length"], vectors[f"{way}.offset"],
        vectors[f"{way}.medians"],
    )  # fmt: skip
    codec = EntropyCodec(tables)
    for image, values in enumerate(latent.numpy()):
        symbols = tables.symbols(values)
        assert np.array_equal(symbols, vectors[f"{way}.symbols"][image])
        stream = codec.encode(symbols, tables.channels)
        assert stream == vectors[f"{way}.stream{image}"].tobytes()
        received = codec.decode(stream, Sizes(*values.shape), whole=True)
        assert np.array_equal(received.values, vectors[f"{way}.latent_hat"][image])


@pytest.mark.parametrize("name", ["fp_resnet", "fp_regnet"])
def test_the_bottlenecks_latents_become_the_official_streams(name: str) -> None:
    vectors = golden(name)
    tables = Tables.from_rows(
        vectors["quantized_cdf"], vectors["cdf_length"], vectors["offset"], vectors["medians"]
    )
    for image, values in enumerate(vectors["encoder_out"]):
        symbols = tables.symbols(values)
        assert np.array_equal(symbols, vectors["symbols"][image])
        assert np.array_equal(tables.values(symbols), vectors["latent_hat"][image])
        stream = EntropyCodec(tables).encode(symbols, tables.channels)
        assert stream == vectors[f"stream{image}"].tobytes()


def test_the_prior_has_the_published_number_of_parameters() -> None:
    for channels, parameters in ((24, 1_464), (64, 3_904)):
        own = FactorisedPrior(channels).parameters()
        assert sum(p.numel() for p in own) == parameters
    assert entropic_student().channels == 24


def test_tables_travel_with_the_weights() -> None:
    prior, _, _ = filled("fp_entropy_narrow")
    with pytest.raises(UsageError, match="no coding tables yet"):
        tables_of(prior)
    made = make_tables(prior)
    other = FactorisedPrior(prior.channels)
    other.load_state_dict(prior.state_dict())
    assert tables_of(other) == made
    make_tables(other, bisect=False)
    assert tables_of(other).digest == made.digest  # the same quantiles, the same machine


def test_a_density_too_wide_for_a_table_is_refused() -> None:
    prior = FactorisedPrior(3)
    with torch.no_grad():
        prior.quantiles[1, 0, 2] = 2.0 * WIDEST_TABLE
    with pytest.raises(UsageError, match=r"Channel 1 .* spreads over 2059 symbols"):
        make_tables(prior, bisect=False)


def test_training_adds_noise_of_a_unit_bin() -> None:
    prior = FactorisedPrior(2).train()
    latent = torch.zeros(1, 2, 50, 50)
    noise = prior(latent).detach()
    assert -0.5 <= noise.min() < -0.49
    assert 0.49 < noise.max() <= 0.5
