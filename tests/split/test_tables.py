from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coding_cases import GOLDEN, golden_tables
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgekit.errors import UsageError
from edgekit.split.quantised_cdf import TOTAL, quantised_cdf
from edgekit.split.tables import Tables

SMALL = Tables((0.25, -1.0), (-1, 7), ((0, 100, 60000), (0, 65535)))


def test_probabilities_become_the_official_integers():
    golden = np.load(GOLDEN / "split_cdf.npz")
    at = 0
    for number, (name, length) in enumerate(zip(golden["names"], golden["lengths"], strict=True)):
        expected = golden["cdf"][at + number : at + number + length + 1]
        assert quantised_cdf(golden["pmf"][at : at + length]) == expected.tolist(), name
        at += length
    assert at == golden["pmf"].size


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e6, width=32), min_size=2, max_size=300))
def test_every_entry_of_any_probabilities_gets_a_frequency(probabilities: list[float]):
    assume(max(probabilities) > 1e-5)
    ends = quantised_cdf(probabilities)
    assert (ends[0], ends[-1], len(ends)) == (0, TOTAL, len(probabilities) + 1)
    assert all(high > low for low, high in pairwise(ends))


@pytest.mark.parametrize(
    "bad", [[], [1.0], [0.0, 0.0], [0.5, float("nan")], [1.5, -0.5], [1e-9, 1e-9]]
)
def test_probabilities_that_count_nothing_are_refused(bad: list[float]):
    with pytest.raises(UsageError, match="robabilities"):
        quantised_cdf(bad)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"offsets": (0,)}, "one median, offset and table"),
        ({"lower_ends": ((0,), (0, 1))}, "channel 0 is unusable: it takes 2"),
        ({"lower_ends": ((0, 5, 5), (0, 1))}, "do not rise"),
        ({"lower_ends": ((1, 5), (0, 1))}, "do not rise"),
        ({"lower_ends": ((0, TOTAL), (0, 1))}, "do not rise"),
        ({"offsets": (2**31 - 2, 0)}, "beyond 32 bits"),
        ({"medians": (float("nan"), 0.0)}, "median"),
        ({"medians": (), "offsets": (), "lower_ends": ()}, "1 to 65535 channels"),
    ],
)
def test_tables_that_nothing_can_be_coded_with_are_refused(change: dict[str, Any], words: str):
    fields = {"medians": SMALL.medians, "offsets": SMALL.offsets, "lower_ends": SMALL.lower_ends}
    with pytest.raises(UsageError, match=words):
        Tables(**fields | change)


def test_rows_that_do_not_end_at_the_total_are_refused():
    cdf = np.array([[0, 5, TOTAL - 1]])
    with pytest.raises(UsageError, match="ends at 65535"):
        Tables.from_rows(cdf, np.array([3]), np.array([0]))
    with pytest.raises(UsageError, match="between 3 and its width"):
        Tables.from_rows(cdf, np.array([4]), np.array([0]))
    with pytest.raises(UsageError, match="one row, length and offset"):
        Tables.from_rows(cdf, np.array([3, 3]), np.array([0]))


def test_a_file_gives_the_same_tables_and_its_hash_is_that_of_the_numbers(tmp_path: Path):
    tables = golden_tables("eb")
    tables.write(tmp_path / "a.json")
    again = Tables.read(tmp_path / "a.json")
    assert again == tables
    assert again.digest == tables.digest
    again.write(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    spaced = json.dumps(json.loads((tmp_path / "a.json").read_text()), indent=3)
    (tmp_path / "c.json").write_text(spaced)
    assert Tables.read(tmp_path / "c.json").digest == tables.digest


def test_the_hash_of_known_tables_never_changes():
    """Heads in the field carry it: another one would make their packets unreadable."""
    assert SMALL.digest.hex()[:16] == "3646d8111b4858eb"


def test_every_number_counts_for_the_hash():
    others = [
        Tables((0.5, -1.0), SMALL.offsets, SMALL.lower_ends),
        Tables(SMALL.medians, (-1, 8), SMALL.lower_ends),
        Tables(SMALL.medians, SMALL.offsets, ((0, 100, 60001), (0, 65535))),
        Tables(SMALL.medians, SMALL.offsets, ((0, 100), (0, 60000, 65535))),
        SMALL.pick([0]),
    ]
    assert len({tables.digest for tables in [SMALL, *others]}) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "can be read"),
        ("[" * 100000, "can be read"),
        ("[1]", "no coding tables"),
        ('{"format": "edgekit-coding-tables", "version": 2}', "version 2"),
        ('{"format": "edgekit-coding-tables", "version": 1}', "damaged"),
        (json.dumps({"offsets": [10**30]}), "damaged|beyond"),
        (json.dumps({"medians": [10**400]}), "damaged"),
        (json.dumps({"lower_ends": [[0, 1.5]]}), "damaged"),
        (json.dumps({"lower_ends": [[0, 2]]}), "changed after it was written"),
    ],
)
def test_a_file_that_is_no_tables_gets_a_sentence(tmp_path: Path, text: str, words: str):
    file = tmp_path / "tables.json"
    if text.startswith('{"') and "format" not in text:
        SMALL.pick([1]).write(file)
        text = json.dumps(json.loads(file.read_text()) | json.loads(text))
    file.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        Tables.read(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="No such file"):
        Tables.read(tmp_path / "missing.json")


def test_values_are_symbols_plus_medians_and_zero_where_nothing_came():
    values = SMALL.values(np.array([[[3, -2]]], np.int32))
    assert values.dtype == np.float32
    assert values.tolist() == [[[3.25, -1.75]], [[0.0, 0.0]]]


def test_symbols_are_values_around_the_median_rounded_half_to_even():
    values = np.array([[[0.75, 1.75, -2.0]], [[-1.5, -0.5, 4.4]]])
    symbols = SMALL.symbols(values)
    assert symbols.tolist() == [[[0, 2, -2]], [[0, 0, 5]]]
    assert np.abs(SMALL.values(symbols) - values).max() <= 0.5


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e9, 2.0**31])
def test_values_that_are_no_symbols_get_a_sentence(bad: float):
    with pytest.raises(UsageError, match="not finite or beyond"):
        SMALL.symbols(np.array([[[0.0]], [[bad]]]))
    with pytest.raises(UsageError, match="2 channels, the values 1"):
        SMALL.symbols(np.zeros((1, 1, 1)))
