"""A split bundle from a picture's file to its classes or boxes, its tail here or at a real server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_detector
import torch
from tail_server import tail_served
from test_end_to_end import clip, photograph

import edgekit
from edgekit.bundle import open_bundle
from edgekit.errors import LinkError, PacketError, UsageError
from edgekit.profiling.end_to_end import EndToEnd, Source, measure_end_to_end, require_end_to_end
from edgekit.profiling.of_bundle import ProfileOptions, profile_bundle
from edgekit.profiling.opened import Opened, Sessions, open_for_measuring
from edgekit.profiling.page import page
from edgekit.profiling.passages import pass_through
from edgekit.profiling.pipeline import Step, Told, steps_of
from edgekit.profiling.report_schema import first_fault
from edgekit.profiling.split_pipeline import HERE, HeadAndTail, Sending
from edgekit.profiling.timing import TimingOptions
from edgekit.split.bundle import Halves, SplitBundle
from edgekit.split.client import Address, LinkOptions
from edgekit.split.codec import DynamicCodec
from edgekit.split.picture import head_input
from edgekit.split.server import ServeOptions, Tail
from edgekit.split_exporting import SplitOptions, export_split, split_network
from edgekit.target import find_target

BEFORE = ["read", "decode", "colour", "resize", "normalise", "head", "encode packet"]
AT_SERVER = ["transfer", "wait at the server", "decode packet", "tail"]
NOWHERE = Address("127.0.0.1", 9)
"""The discard port: nothing listens there."""


@pytest.fixture(scope="module")
def opened(halved: Path) -> Opened:
    return open_for_measuring(open_bundle(halved), Sessions(1))


@pytest.fixture(scope="module")
def tail(halved: Path) -> Tail:
    return SplitBundle(open_bundle(halved), Sessions(1).load).tail()


def measured(opened: Opened, picture: Path, sending: Sending) -> EndToEnd:
    return measure_end_to_end(opened, Source("image", picture), 0.05, 1, sending)


def required(opened: Opened, picture: Path, sending: Sending) -> None:
    require_end_to_end(opened, Source("image", picture), 1, sending)


def meanwhile(tail: Tail, do: Callable[[], None]) -> Tail:
    def run(values: Any) -> Mapping[str, Any]:
        do()
        return tail.run(values)

    return replace(tail, run=run)


def after(answers: int, do: Callable[[], None]) -> Callable[[], None]:
    left = iter(range(answers))

    def count() -> None:
        if next(left, None) is None:
            do()

    return count


def test_without_a_server_the_tail_runs_here_and_nothing_is_transferred(
    opened: Opened, tmp_path: Path
) -> None:
    picture = photograph(tmp_path)
    found = measured(opened, picture, HERE)
    assert [(p.path, p.callers) for p in found.passages] == [
        ("full decode", 1), ("reduced decode", 1), ("full decode", 4), ("reduced decode", 4),
    ]  # fmt: skip
    for passage in found.passages:
        assert list(passage.steps) == [*BEFORE, "decode packet", "tail", "top 5"]
        assert sum(map(passage.share, passage.steps)) == pytest.approx(1)
    split = SplitBundle(opened.bundle)
    inputs, placement = head_input(picture, opened.bundle)
    assert found.sent is not None
    assert found.sent.packet_bytes == len(split.packet(inputs, placement=placement))
    assert found.sent.jpeg_bytes is not None
    assert found.sent.jpeg_bytes < picture.stat().st_size
    assert "nothing was transferred" in found.text()
    assert "head and tail are not what takes longest" in found.text()


def test_the_classes_are_those_that_run_finds(opened: Opened, tail: Tail, tmp_path: Path) -> None:
    picture = photograph(tmp_path)
    split = SplitBundle(opened.bundle)
    logits = Halves(split).run(head_input(picture, opened.bundle)[0])["logits"][0]
    with tail_served(tail) as (_, address):
        for sending in (HERE, Sending(address)):
            network = HeadAndTail(opened, sending, 1, picture)
            value: Any = None
            for step in steps_of(network, picture, reduced=False):
                value = step.run(value)
                value = value.value if isinstance(value, Told) else value
            assert value == np.argsort(-logits).tolist()
            network.close()


def test_each_caller_has_a_connection_whose_transfer_has_its_own_time(
    opened: Opened, tail: Tail, tmp_path: Path
) -> None:
    with tail_served(tail) as (server, address):
        found = measured(opened, photograph(tmp_path, name="photo.png"), Sending(address))
        assert server.counts.connections == 1 + 4
    alone, together = found.passages
    assert list(alone.steps) == list(together.steps) == [*BEFORE, *AT_SERVER, "top 5"]
    assert min(alone.steps["transfer"].samples) > 0
    assert found.sent is not None
    assert found.sent.server == str(address)
    assert server.counts.answered == 1 + sum(len(p.steps["tail"].samples) for p in found.passages)
    assert found.to_json()["sent"]["packet_bytes"] == found.sent.packet_bytes
    assert f"{address} told how long packets waited there" in found.text()


def test_a_tail_that_takes_long_is_no_slow_link_and_callers_wait_for_it(
    opened: Opened, tail: Tail, tmp_path: Path
) -> None:
    slow = meanwhile(tail, lambda: time.sleep(0.05))
    with tail_served(slow) as (_, address):
        found = measured(opened, photograph(tmp_path, name="photo.png"), Sending(address))
    alone, together = found.passages
    for passage in found.passages:
        transfer, wait, _, computed = (passage.steps[step].median for step in AT_SERVER)
        assert computed >= 50
        assert transfer < wait + computed
    waits = [passage.steps["wait at the server"].median for passage in (alone, together)]
    assert waits[1] > waits[0] + 50  # behind another at least


def test_what_another_machine_told_is_none_of_a_step_s_time() -> None:
    clock = iter([0.0, 0.010, 0.010, 0.011]).__next__
    asking = Step("ask", lambda _: Told("answer", (2.0, 3.0)), told=("wait", "work"))
    assert pass_through((asking, Step("show", str)), clock) == pytest.approx([5, 2, 3, 1])
    boastful = Step("ask", lambda _: Told("answer", (7.0, 8.0)), told=("wait", "work"))
    clock = iter([0.0, 0.010]).__next__
    assert pass_through((boastful,), clock) == pytest.approx([0, 7, 8])


def test_fewer_channels_make_a_shorter_packet(opened: Opened, tmp_path: Path) -> None:
    whole, part = (
        measured(opened, photograph(tmp_path), Sending(keep=keep)).sent for keep in (None, 3)
    )
    assert whole is not None
    assert part is not None
    assert whole.packet_bytes - part.packet_bytes == pytest.approx(5 * 8 * 10, abs=1)


def test_a_link_that_is_lost_leaves_what_was_measured(
    opened: Opened, tail: Tail, tmp_path: Path
) -> None:
    def failing() -> None:
        raise UsageError("the tail broke.")

    picture = photograph(tmp_path)
    with tail_served(meanwhile(tail, after(8, failing))) as (_, address):
        found = measured(opened, picture, Sending(address))
    assert "the tail broke" in found.incomplete
    assert [(p.path, p.callers) for p in found.passages] == [("full decode", 1), ("reduced decode", 1)]  # fmt: skip
    assert len(found.passages[0].steps["tail"].samples) == 3
    with (
        tail_served(meanwhile(tail, failing)) as (_, address),
        pytest.raises(LinkError, match="the tail broke"),
    ):
        measured(opened, picture, Sending(address))


def test_a_profile_whose_server_went_away_has_all_else_and_says_so(
    halved: Path, tail: Tail, tmp_path: Path
) -> None:
    picture = photograph(tmp_path)
    with tail_served(meanwhile(tail, after(5, lambda: server.stop_soon()))) as (server, address):
        options = ProfileOptions(1, TimingOptions(0.05), Source("image", picture), sending=Sending(address))  # fmt: skip
        found = profile_bundle(open_bundle(halved), options)
    assert f"{address} closed the connection" in found.incomplete
    assert found.end_to_end is not None
    assert found.footprint.process
    assert f"incomplete: {found.incomplete}" in found.text()
    assert found.to_json()["complete"] is False
    assert first_fault(found.to_json()) == ""
    assert "<td>wait at the server</td>" in page(found)


def test_a_server_that_came_back_as_another_leaves_what_was_measured(
    opened: Opened, halved: Path, tail: Tail, tmp_path: Path
) -> None:
    def asking_for_a_token() -> None:
        server.options = ServeOptions(token="sesame")

    def of_another_head() -> None:
        server.tail = replace(tail, codec=DynamicCodec(8))

    source = Source("image", photograph(tmp_path, name="photo.png"))
    with tail_served(meanwhile(tail, asking_for_a_token)) as (server, address):
        part = measure_end_to_end(opened, source, 0.05, 1, Sending(address))
    assert "asks for a token" in part.incomplete
    assert [passage.callers for passage in part.passages] == [1]
    with tail_served(meanwhile(tail, of_another_head)) as (server, address):
        options = ProfileOptions(1, TimingOptions(0.05), source, sending=Sending(address))
        found = profile_bundle(open_bundle(halved), options)
    assert "of another head" in found.incomplete
    assert found.end_to_end is None
    assert found.to_json()["complete"] is False
    assert first_fault(found.to_json()) == ""


def test_a_server_that_is_none_of_this_head_s_is_told_before_anything_is_measured(
    opened: Opened, tail: Tail, tmp_path: Path
) -> None:
    picture = photograph(tmp_path)
    with pytest.raises(LinkError, match="cannot be reached"):
        required(opened, picture, Sending(NOWHERE))
    other = replace(tail, codec=DynamicCodec(8))
    with tail_served(other) as (_, address), pytest.raises(PacketError, match="of another head"):
        required(opened, picture, Sending(address))
    with tail_served(tail, ServeOptions(token="sesame")) as (_, address):
        required(opened, picture, Sending(address, LinkOptions(token="sesame")))
        for token in (None, "open"):
            with pytest.raises(UsageError, match="token"):
                required(opened, picture, Sending(address, LinkOptions(token=token)))
    with (
        tail_served(replace(tail, run=lambda _: {"logits": np.zeros(3)})) as (_, address),
        pytest.raises(LinkError, match="something else"),
    ):
        required(opened, picture, Sending(address))


def test_frames_of_a_video_are_sent_one_by_one(opened: Opened, tmp_path: Path) -> None:
    source = Source("video", clip(tmp_path / "clip.mp4"))
    found = measure_end_to_end(opened, source, 0.02, 1, HERE)
    assert list(found.passages[0].steps) == [*BEFORE, "decode packet", "tail", "top 5"]
    assert found.sent is not None
    assert found.sent.jpeg_bytes is None


def test_a_detector_s_boxes_are_suppressed_and_drawn_here(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        small_detector.register(patch)
        torch.manual_seed(0)
        model = edgekit.load(str(small_detector.write_detector(tmp_path)))
        network = split_network(model, "stem", None)
        bundle, _ = export_split(
            model, network, "stem", find_target("onnx"), tmp_path / "bundle",
            SplitOptions(simplify=False, verify=False),
        )  # fmt: skip
    opened = open_for_measuring(bundle, Sessions(1))
    picture = photograph(tmp_path)
    with tail_served(SplitBundle(bundle).tail()) as (_, address):
        found = measured(opened, picture, Sending(address))
    assert list(found.passages[0].steps) == [*BEFORE, *AT_SERVER, "suppress", "draw"]
