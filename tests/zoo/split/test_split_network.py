from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.errors import UsageError
from edgekit.split.codec import CalibratedCodec, DynamicCodec, EntropyCodec, Sizes
from edgekit.split.of_network import codec_of, make_tables
from edgekit.zoo.inverted_residual import InvertedResidualConfig, InvertedResidualNetwork
from edgekit.zoo.split.attach import attach, calibrate, split_at
from edgekit.zoo.split.bottleneck import Bottleneck
from edgekit.zoo.split.entropic_student import entropic_student
from edgekit.zoo.split.factorised_prior import FactorisedPrior
from edgekit.zoo.split.gdn import GDN1
from edgekit.zoo.split.mobile import mobile
from edgekit.zoo.split.network import SplitNetwork

CHANNELS = 6
IMAGES = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(3))


def backbone() -> InvertedResidualNetwork:
    torch.manual_seed(0)
    blocks = ((3, 0, 8, 1, 1), (3, 2, 12, 2, 2), (3, 2, 16, 2, 2))
    return InvertedResidualNetwork(InvertedResidualConfig(8, blocks, 16, 5, "relu6")).eval()


def network(quantiser: str, least_kept: int | None = None) -> SplitNetwork:
    made = attach(
        backbone(), mobile(CHANNELS, 16, 8, width=8), ends="features.5", quantiser=quantiser,
        least_kept=least_kept,
    ).eval()  # fmt: skip
    with torch.no_grad():  # latents that fill several symbols
        made.head.encoder[-1].weight.mul_(20)
    if isinstance(made.head.quantiser, FactorisedPrior):
        make_tables(made.head.quantiser)
    elif quantiser == "calibrated":
        calibrate(made, [IMAGES])
    return made


@pytest.mark.parametrize("keep", [None, 1, 4])
@pytest.mark.parametrize(
    ("quantiser", "codec", "dtype"),
    [
        ("entropy", EntropyCodec, torch.int32),
        ("calibrated", CalibratedCodec, torch.uint8),
        ("dynamic", DynamicCodec, torch.float32),
    ],
)
def test_head_bytes_and_tail_give_what_the_whole_network_gives(
    quantiser: str, codec: type, dtype: torch.dtype, keep: int | None
) -> None:
    whole = network(quantiser)
    coding = codec_of(whole)
    assert isinstance(coding, codec)
    head, tail = whole.head_for_device(), whole.tail_for_server()
    with torch.no_grad():
        sent = head(IMAGES)
        assert sent.dtype == dtype
        assert sent.shape == (2, CHANNELS, 4, 6)
        expected = whole(IMAGES, keep)
        for image in range(2):
            kept = keep or CHANNELS
            payload = coding.encode(sent[image].numpy(), kept)
            received = coding.decode(payload, Sizes(kept, 4, 6), whole=True)
            made = tail(torch.from_numpy(received.values)[None])
            torch.testing.assert_close(made[0], expected[image], rtol=0, atol=1e-5)


def test_training_drops_the_last_channels_of_each_image_and_counts_no_bits_for_them() -> None:
    whole = network("entropy", least_kept=2).train()
    seen: dict[str, torch.Tensor] = {}
    whole.rate.register_forward_hook(lambda _m, given, made: seen.update(mask=given[1], bits=made))
    with torch.no_grad():
        values = whole.values(IMAGES.repeat(50, 1, 1, 1))
    arrived = (values != 0).any(dim=(2, 3))
    kept = arrived.sum(1)
    assert sorted(set(kept.tolist())) == [2, 3, 4, 5, 6]
    assert (arrived == (torch.arange(CHANNELS) < kept[:, None])).all()
    assert torch.equal(seen["mask"][:, :, 0, 0].bool(), arrived)
    few, many = seen["bits"][kept == 2].mean(), seen["bits"][kept == 6].mean()
    assert 2.5 < many / few < 3.5


def test_without_tail_drop_all_channels_arrive_in_training() -> None:
    with torch.no_grad():
        assert (network("entropy").train().values(IMAGES) != 0).any(dim=(2, 3)).all()


def test_a_plain_network_is_split_without_a_bottleneck() -> None:
    plain = backbone()
    split = split_at(plain, "features.3", IMAGES[:1])
    assert split.head.quantiser.channels == 12
    head, tail = split.head_for_device(), split.tail_for_server()
    with torch.no_grad():
        assert torch.equal(tail(head(IMAGES)), plain(IMAGES))
        rounded = split.eval()(IMAGES)
        assert 0 < (rounded - plain(IMAGES)).abs().max() < 0.05 * plain(IMAGES).abs().max()
    with pytest.raises(UsageError, match="'classifier' gives a tensor of 2 axes"):
        split_at(plain, "classifier", IMAGES[:1])


def test_stem_layers_stay_on_the_device() -> None:
    encoder = nn.Sequential(nn.Conv2d(12, 3, 1))
    bottleneck = Bottleneck(encoder, nn.Sequential(nn.Conv2d(3, 16, 2, 2)), 3)
    whole = attach(
        backbone(), bottleneck, begins="features.3", ends="features.5", quantiser="dynamic"
    )
    names = {name.split(".")[2] for name in whole.head.stem.state_dict() if name.count(".") > 2}
    assert "features.3.conv.0.0.weight" in whole.head.stem.state_dict(), names
    assert whole.eval()(IMAGES).shape == (2, 5)


def test_copies_for_export_have_constants_for_gdn_and_leave_the_network_as_it_is() -> None:
    whole = attach(
        nn.Sequential(nn.Conv2d(3, 256, 4, 4), nn.Conv2d(256, 2, 1)), entropic_student(4),
        ends="0", quantiser="entropy",
    )  # fmt: skip
    head, tail = whole.head_for_device(), whole.tail_for_server()
    for part in (head, tail):
        assert not any(isinstance(module, GDN1) for module in part.modules())
        assert not part.training
    assert sum(isinstance(module, GDN1) for module in whole.modules()) == 4
    with torch.no_grad():
        torch.testing.assert_close(
            tail(whole.eval().values(IMAGES)), whole(IMAGES), rtol=1e-4, atol=1e-4
        )


def test_what_cannot_quantise_yet_says_so() -> None:
    uncalibrated = attach(
        backbone(), mobile(2, 16, 8, width=8), ends="features.5", quantiser="calibrated"
    )
    with pytest.raises(UsageError, match="no scales"):
        uncalibrated.head_for_device()
    with pytest.raises(UsageError, match="no scales"):
        codec_of(uncalibrated)
    with pytest.raises(UsageError, match="no quantiser 'huffman'; there are entropy"):
        attach(backbone(), mobile(2, 16, 8), ends="features.5", quantiser="huffman")
    with pytest.raises(UsageError, match="no tail 'mian'"):
        uncalibrated.tail_for_server("mian")
    with pytest.raises(UsageError, match="at least one picture"):
        calibrate(uncalibrated, [])


def test_the_dynamic_range_in_the_graph_is_that_of_the_codec() -> None:
    whole = network("dynamic")
    latent = torch.randn(3, CHANNELS, 5, 7) * 4
    latent[1] = 0
    latent[2] = latent[2].abs() + 1
    codec = codec_of(whole)
    for image in latent:
        payload = codec.encode(image.numpy(), CHANNELS)
        expected = codec.decode(payload, Sizes(CHANNELS, 5, 7), whole=True).values
        np.testing.assert_array_equal(whole.head.quantiser(image[None])[0], expected)
