"""Each filter against the definition, box by box."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.detection.detections import Detections
from edgekit.detection.evidence import GRID, Evidence, features_at
from edgekit.detection.filter_logits import Energy, MaxLogit
from edgekit.detection.filter_mahalanobis import fit_mahalanobis, shrunk
from edgekit.detection.filter_neighbours import fit_neighbours
from edgekit.detection.hallucinations import (
    Screening,
    evidence_of,
    false_positive_rate,
    hallucinations,
)
from edgekit.detection.safety import (
    FILTERS,
    Calibrated,
    Safety,
    accepted,
    fit_safety,
    gives_tables,
    threshold_of,
)
from edgekit.errors import UsageError

RANDOM = np.random.default_rng(0)


def evidence(count: int, classes: int = 4, features: int = 6, seed: int = 1) -> Evidence:
    random = np.random.default_rng(seed)
    return Evidence(
        random.normal(0, 5, (count, classes)).astype(np.float32),
        random.normal(1, 2, (count, features)).astype(np.float32),
    )


def pictures(count: int, each: int = 4, seed: int = 1) -> list[Detections]:
    """Of two classes, whose features lie in directions of their own."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        labels = random.integers(0, 2, each)
        told = evidence(each, seed=int(random.integers(1 << 30)))
        told.features[:] += np.where(np.arange(6) % 2 == labels[:, None], 20, 0)
        scores = np.sort(random.uniform(0.3, 1, each))[::-1].astype(np.float32)
        made.append(Detections(np.zeros((each, 4), np.float32), scores, labels, told))
    return made


def test_energy_is_the_sum_of_the_classes_own_energies() -> None:
    told = evidence(9)
    wanted = [sum(math.log1p(math.exp(float(z))) for z in row) for row in told.logits]
    np.testing.assert_allclose(Energy().confidence(told), wanted, rtol=1e-5)


def test_energy_of_great_logits_is_finite() -> None:
    told = Evidence(np.array([[500.0, -500.0]], np.float32), np.zeros((1, 1), np.float32))
    np.testing.assert_allclose(Energy().confidence(told), [500.0])


def test_max_logit_is_the_greatest_logit() -> None:
    told = evidence(9)
    assert MaxLogit().confidence(told).tolist() == [max(row) for row in told.logits.tolist()]


def test_mahalanobis_is_the_distance_to_the_nearest_mean_under_one_covariance() -> None:
    told, labels = evidence(60), RANDOM.integers(0, 3, 60)
    values = told.features.astype(np.float64)
    means = {label: values[labels == label].mean(0) for label in range(3)}
    scatter = np.zeros((6, 6))
    for row, label in zip(values, labels, strict=True):
        scatter += np.outer(row - means[label], row - means[label])
    inverse = np.linalg.inv(shrunk(scatter / 60, 60))
    new = evidence(7, seed=2)
    wanted = [
        -min((row - mean) @ inverse @ (row - mean) for mean in means.values())
        for row in new.features.astype(np.float64)
    ]
    found = fit_mahalanobis(told.features, labels).confidence(new)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_knn_is_the_distance_to_the_kth_nearest_direction() -> None:
    told, new = evidence(40), evidence(7, seed=2)
    unit = [row / np.linalg.norm(row) for row in told.features.astype(np.float64)]
    wanted = [
        -sorted(float(np.linalg.norm(row / np.linalg.norm(row) - other)) for other in unit)[4]
        for row in new.features.astype(np.float64)
    ]
    found = fit_neighbours(told.features, k=5).confidence(new)
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_a_bank_that_is_too_large_is_thinned_evenly() -> None:
    values = evidence(100).features
    made = fit_neighbours(values, k=2, most=10)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    np.testing.assert_allclose(made.bank, (values / lengths)[::11], rtol=1e-6)


def test_fewer_known_boxes_than_neighbours_are_refused() -> None:
    with pytest.raises(UsageError, match="KNN looks at the 5 nearest known boxes, and there are 4"):
        fit_neighbours(evidence(4).features, k=5)


def test_fewer_boxes_than_features_have_a_covariance_with_an_inverse() -> None:
    told = evidence(12, features=50)
    assert np.linalg.matrix_rank(np.cov(told.features.T)) < 50
    made = fit_mahalanobis(told.features, np.zeros(12, np.int64))
    assert np.isfinite(made.precision).all()
    assert (np.linalg.eigvalsh(made.precision.astype(np.float64)) > 0).all()


def test_features_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(UsageError, match="their covariance has no inverse"):
        fit_mahalanobis(np.full((30, 4), 7.0, np.float32), np.zeros(30, np.int64))


@given(st.integers(3, 60), st.integers(2, 9))
@settings(deadline=None, max_examples=40)
def test_shrinkage_keeps_the_trace_and_brings_eigenvalues_together(samples: int, size: int) -> None:
    rows = np.random.default_rng(samples).normal(size=(samples, size)) * np.arange(1, size + 1)
    covariance = rows.T @ rows / samples
    made = shrunk(covariance, samples)
    assert np.trace(made) == pytest.approx(np.trace(covariance))
    before, after = np.linalg.eigvalsh(covariance), np.linalg.eigvalsh(made)
    assert after[0] >= before[0] - 1e-9
    assert after[-1] <= before[-1] + 1e-9


def test_features_are_the_mean_of_the_cells_under_points_of_the_box() -> None:
    maps = [
        RANDOM.normal(size=(3, 8, 12)).astype(np.float32),
        RANDOM.normal(size=(2, 4, 6)).astype(np.float32),
    ]
    boxes = np.array([[5, 3, 40, 50], [-30, -9, 200, 70], [90, 60, 96, 64]], np.float32)
    found = features_at(maps, boxes, height=64, width=96)
    assert found.shape == (3, 5)
    for row, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        wanted = []
        for values in maps:
            cell = 64 // values.shape[1]
            points = [
                (x1 + (x2 - x1) * (i + 0.5) / GRID, y1 + (y2 - y1) * (j + 0.5) / GRID)
                for i in range(GRID)
                for j in range(GRID)
            ]
            cells = [
                values[
                    :,
                    min(max(math.floor(y / cell), 0), values.shape[1] - 1),
                    min(max(math.floor(x / cell), 0), values.shape[2] - 1),
                ]
                for x, y in points
            ]
            wanted += np.mean(cells, axis=0).tolist()
        np.testing.assert_allclose(found[row], wanted, rtol=1e-5, atol=1e-6)


def test_no_boxes_have_no_features() -> None:
    maps = [np.zeros((3, 8, 8), np.float32)]
    assert features_at(maps, np.zeros((0, 4), np.float32), 64, 64).shape == (0, 3)


@given(st.integers(1, 200), st.floats(0.5, 0.99))
@settings(deadline=None, max_examples=60)
def test_a_threshold_is_the_highest_that_accepts_the_share(count: int, acceptance: float) -> None:
    confidence = np.random.default_rng(count).normal(size=count).astype(np.float32)
    threshold = threshold_of(confidence, acceptance)
    assert np.mean(confidence >= threshold) >= acceptance - 1e-6
    higher = confidence[confidence > threshold]
    if len(higher):
        assert np.mean(confidence >= higher.min()) < acceptance + 1e-6


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_accepts_nineteen_of_twenty_boxes_like_those_it_was_made_of(name: str) -> None:
    safety = fit_safety(pictures(400), 0.3)
    assert (safety.boxes, safety.pictures) == (1600, 400)
    tried = [one for one, made in zip(pictures(400), gives_tables(400), strict=True) if not made]
    passed = safety.accepts(name, evidence_of(tried, 0.0))
    assert np.mean(passed) == pytest.approx(0.95, abs=0.003)
    fresh = safety.accepts(name, evidence_of(pictures(400, seed=9), 0.0))
    assert np.mean(fresh) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("name", ["mahalanobis", "knn"])
def test_films_whose_frames_are_alike_do_not_make_a_filter_too_strict(name: str) -> None:
    films = [frame for frame in pictures(100) for _ in range(12)]
    safety = fit_safety(films, 0.3)
    fresh = safety.accepts(name, evidence_of(pictures(400, seed=9), 0.0))
    assert np.mean(fresh) == pytest.approx(0.95, abs=0.05)


@given(st.integers(1, 500))
@settings(deadline=None, max_examples=60)
def test_tables_and_thresholds_are_of_runs_of_neighbours_in_either_half(count: int) -> None:
    made = gives_tables(count)
    assert sum(one != other for one, other in pairwise(made)) == min(10, count) - 1
    assert sum(made) >= count / 2
    assert sum(made) <= count / 2 + 5


@pytest.mark.parametrize("name", ["mahalanobis", "knn"])
def test_features_from_elsewhere_are_rejected(name: str) -> None:
    safety = fit_safety(pictures(100), 0.3)
    strange = evidence(50, seed=5)
    strange.features[:] -= 20
    assert not safety.accepts(name, strange).any()


def test_too_few_right_boxes_are_one_sentence() -> None:
    with pytest.raises(
        UsageError, match=r"finds 16 of the marked objects .* above 0\.3, in 4 pict"
    ):
        fit_safety(pictures(4), 0.3)
    with pytest.raises(UsageError, match="finds 0 of the marked objects"):
        fit_safety([], 0.3)


@pytest.mark.parametrize("acceptance", [0.0, 1.0, 95.0, float("nan")])
def test_an_acceptance_that_is_no_share_is_refused(acceptance: float) -> None:
    with pytest.raises(UsageError, match="An acceptance of"):
        fit_safety(pictures(50), 0.3, acceptance)


def test_filters_of_another_detector_are_refused() -> None:
    safety = fit_safety(pictures(50), 0.3)
    with pytest.raises(UsageError, match="with 4 classes and 6 features, and this one has 5 and 6"):
        safety.accepts("knn", evidence(3, classes=5))
    with pytest.raises(UsageError, match="There is no filter 'kn'; there are energy, max-logit"):
        safety.accepts("kn", evidence(3))


def test_a_detector_without_evidence_is_one_sentence() -> None:
    found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))
    with pytest.raises(UsageError, match="export it with --safety"):
        accepted(found, fit_safety(pictures(50), 0.3), "knn")


def _by_max_logit(threshold: float) -> Safety:
    only = {"max-logit": Calibrated(MaxLogit(), threshold)}
    return Safety(only, 1, 1, 0.95, score=0.5, pictures=1, boxes=1)


def _found(scores: list[float], logits: list[float]) -> Detections:
    told = Evidence(np.array(logits, np.float32)[:, None], np.zeros((len(logits), 1), np.float32))
    boxes = np.arange(4 * len(scores), dtype=np.float32).reshape(-1, 4)
    return Detections(boxes, np.array(scores, np.float32), np.zeros(len(scores), np.int64), told)


def test_screening_leaves_out_what_is_rejected_and_ranking_puts_it_below_the_threshold() -> None:
    screening = Screening(_by_max_logit(2.0), "max-logit")
    found = _found([0.9, 0.8, 0.6, 0.1], [1, 3, 2, 0])
    kept = screening(found)
    assert kept.scores.tolist() == pytest.approx([0.8, 0.6])
    ranked = screening.ranked(found)
    assert ranked.scores.tolist() == pytest.approx([0.8, 0.6, 0.45, 0.05])
    np.testing.assert_array_equal(ranked.boxes, found.boxes[[1, 2, 0, 3]])
    assert len(screening.ranked(_found([], []))) == 0


def test_hallucinations_are_all_boxes_that_are_shown() -> None:
    seen = [_found([0.9, 0.5, 0.2], [1, 1, 1]), _found([], []), _found([0.6], [1])]
    assert hallucinations(seen, 0.5) == 2
    assert len(evidence_of(seen, 0.5)) == 2


def test_the_false_positive_rate_is_taken_where_95_in_100_right_boxes_pass() -> None:
    known = _found([1.0] * 100, list(range(100))).evidence
    unknown = _found([1.0] * 10, [4, 5, 6, 0, 1, 2, 3, 4, 4, 200]).evidence
    assert known is not None
    assert unknown is not None
    safety = _by_max_logit(1e9)
    assert false_positive_rate(safety, "max-logit", known, unknown) == pytest.approx(0.3)
    assert math.isnan(false_positive_rate(safety, "max-logit", known, unknown.at(np.arange(0))))
