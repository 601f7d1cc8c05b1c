"""The quantizer, against scikit-learn's k-means, brute force and formulas written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qprompt_edge.tuning.quantizer import (
    BIT_WIDTHS,
    Clustering,
    Codebook,
    cluster,
    divergence,
    kmeans,
    nearest,
    normalise,
    quantize,
    recluster,
)
from qprompt_runtime.packing import levels
from qprompt_runtime.prompt_group import PromptGroup, decode_group, encode_group


def objective(values: np.ndarray, centroids: np.ndarray) -> float:
    """Sum of squared distances to the nearest centroid."""
    distances = (values[:, None].astype(np.float64) - centroids[None].astype(np.float64)) ** 2
    return float(distances.min(axis=1).sum())


def draw(kind: str, count: int = 2048) -> np.ndarray:
    rng = np.random.default_rng(7)
    values = {
        "gaussian": lambda: rng.normal(size=count),
        "uniform": lambda: rng.uniform(-1, 1, count),
        "skewed": lambda: rng.gamma(2.0, size=count),
        "two humps": lambda: np.concatenate([rng.normal(-2, 0.3, count // 3), rng.normal(1, 0.5, count)]),
    }[kind]()
    return normalise(values.astype(np.float32))[0]


# ---------------------------------------------------------------------- k-means


def assert_as_good_as_sklearn(values: np.ndarray, clusters: int) -> None:
    reference = pytest.importorskip("sklearn.cluster")
    model = reference.KMeans(clusters, n_init=10, random_state=0).fit(values[:, None].astype(np.float64))
    ours = objective(values, kmeans(values, clusters))
    assert ours <= 1.01 * model.inertia_ + 1e-9, f"ours {ours:.6g}, scikit-learn's {model.inertia_:.6g}"


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("kind", ["gaussian", "uniform", "skewed", "two humps"])
def test_objective_is_within_one_percent_of_sklearn(kind: str, bits: float) -> None:
    assert_as_good_as_sklearn(draw(kind), levels(bits))


@pytest.mark.parametrize("bits", [1, 2])
@pytest.mark.parametrize("count", [4, 5, 8, 16])
def test_few_weights(count: int, bits: float) -> None:
    assert_as_good_as_sklearn(draw("gaussian", count), levels(bits))


@pytest.mark.parametrize("bits", [1, 2])
def test_weights_that_repeat(bits: float) -> None:
    values = np.repeat(np.array([-1.5, -0.5, 0.25, 0.5, 2.0], np.float32), [40, 7, 30, 3, 20])
    assert_as_good_as_sklearn(values, levels(bits))


def test_one_value_far_more_frequent_than_the_others() -> None:
    values = np.repeat(np.array([0.0, 1.0, 2.0, 5.0], np.float32), [90, 4, 3, 3])
    assert objective(values, kmeans(values, 4)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("bits", BIT_WIDTHS)
def test_more_clusters_than_values(bits: float) -> None:
    values = np.array([-1.0, 0.5, 0.5, 3.0], np.float32)
    centroids = kmeans(values, levels(bits))
    assert centroids.shape == (levels(bits),)
    assert np.isfinite(centroids).all()
    if bits > 1:
        assert objective(values, centroids) == pytest.approx(0, abs=1e-9)


@given(
    arrays.arrays(np.float32, st.integers(1, 60), elements=st.floats(-100, 100, width=32)), st.integers(1, 4)
)
def test_centroids_are_ascending_and_within_the_values(values: np.ndarray, bits: float) -> None:
    centroids = kmeans(values, levels(bits))
    assert (np.diff(centroids) >= 0).all()
    assert centroids.min() >= values.min() - 1e-4
    assert centroids.max() <= values.max() + 1e-4


def test_one_bit_of_a_gaussian_is_its_two_half_means() -> None:
    centroids = kmeans(draw("gaussian", 200_000), 2)
    expected = np.sqrt(2 / np.pi)
    assert np.abs(centroids - [-expected, expected]).max() < 0.01, centroids


# ---------------------------------------------------------------------- normalising and rounding


def test_normalised_weights_have_mean_zero_and_standard_deviation_one() -> None:
    weights = np.random.default_rng(0).normal(3, 0.02, (4, 512)).astype(np.float32)
    normalised, mean, sigma = normalise(weights)
    assert (normalised.mean(), normalised.std()) == pytest.approx((0, 1), abs=1e-4)
    assert np.allclose(normalised.reshape(4, 512) * sigma + mean, weights, atol=1e-6)


@given(arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(-4, 4, width=32)), st.integers(1, 8))
def test_nearest_equals_brute_force(values: np.ndarray, bits: float) -> None:
    centroids = np.sort(np.random.default_rng(int(bits)).normal(size=levels(bits))).astype(np.float32)
    distances = np.abs(values[:, None].astype(np.float64) - centroids[None])
    chosen = distances[np.arange(len(values)), nearest(values, centroids)]
    assert np.allclose(chosen, distances.min(axis=1), atol=1e-6)


def test_a_tie_goes_to_the_upper_centroid() -> None:
    centroids = np.array([-1, 0, 1], np.float32)
    assert nearest(np.array([-0.5, 0.5], np.float32), centroids).tolist() == [1, 2]


# ---------------------------------------------------------------------- constrained adaptive clustering


def test_divergence_equals_the_formula() -> None:
    weights = np.random.default_rng(1).gamma(2.0, size=500).astype(np.float32)
    book = Codebook(np.array([-1.5, -0.5, 0.5, 1.5], np.float32), np.array([100, 150, 150, 100]), 0)
    hat = (weights - weights.mean()) / weights.std()
    cells = [
        (hat < -1).sum(),
        ((hat >= -1) & (hat < 0)).sum(),
        ((hat >= 0) & (hat < 1)).sum(),
        (hat >= 1).sum(),
    ]
    now = (np.array(cells) + 0.5) / (500 + 2)
    cached = (book.counts + 0.5) / (500 + 2)
    expected = sum(p * np.log(p / q) for p, q in zip(now, cached, strict=True))
    assert divergence(weights, book) == pytest.approx(expected, rel=1e-9)


def test_divergence_equals_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    weights = np.random.default_rng(2).normal(size=300).astype(np.float32)
    book = cluster(np.random.default_rng(3).gamma(1.0, size=300).astype(np.float32), 2, 0)
    now = np.bincount(nearest(normalise(weights)[0], book.centroids), minlength=4) + 0.5
    assert divergence(weights, book) == pytest.approx(stats.entropy(now, book.counts + 0.5), rel=1e-9)


def test_divergence_of_unchanged_weights_is_zero() -> None:
    weights = np.random.default_rng(4).normal(size=300).astype(np.float32)
    assert divergence(weights, cluster(weights, 4, 0)) == pytest.approx(0, abs=1e-12)


def test_an_empty_cell_has_a_finite_divergence() -> None:
    book = Codebook(np.array([-50, 0, 50, 60], np.float32), np.array([10, 0, 0, 10]), 0)
    assert np.isfinite(divergence(np.random.default_rng(5).normal(size=20).astype(np.float32), book))


GAUSSIAN = np.random.default_rng(6).normal(size=400).astype(np.float32)
SKEWED = np.random.default_rng(6).gamma(0.3, size=400).astype(np.float32)


@pytest.mark.parametrize(
    ("weights", "step", "reclustered"),
    [
        (SKEWED, 10, True),
        (SKEWED, 25, True),
        (SKEWED, 9, False),  # too soon
        (GAUSSIAN, 10, False),  # nothing moved
        (GAUSSIAN, 9, False),
    ],
)
def test_reclustering_needs_both_time_and_divergence(
    weights: np.ndarray, step: int, reclustered: bool
) -> None:
    book = cluster(GAUSSIAN, 2, 0)
    result = recluster(weights, book, step, Clustering(interval=10, divergence=0.01))
    assert (result is not book) == reclustered
    if reclustered:
        fresh = cluster(weights, 2, step)
        assert result.step == step
        assert np.array_equal(result.centroids, fresh.centroids)
        assert np.array_equal(result.counts, fresh.counts)


def test_a_divergence_at_the_threshold_reclusters_nothing() -> None:
    book = cluster(GAUSSIAN, 2, 0)
    measured = divergence(SKEWED, book)
    assert recluster(SKEWED, book, 10, Clustering(10, measured)) is book
    assert recluster(SKEWED, book, 10, Clustering(10, measured * 0.999)) is not book


@pytest.mark.parametrize("bits", BIT_WIDTHS)
def test_reclustering_keeps_the_number_of_bits(bits: float) -> None:
    book = cluster(GAUSSIAN, bits, 0)
    assert len(recluster(SKEWED, book, 10, Clustering(divergence=-1.0)).centroids) == levels(bits)


# ---------------------------------------------------------------------- what a file keeps


@pytest.mark.parametrize("bits", BIT_WIDTHS)
def test_training_sees_what_the_file_gives(bits: float) -> None:
    weights = np.random.default_rng(8).normal(0.01, 0.03, (4, 512)).astype(np.float32)
    quantized = quantize(weights, cluster(weights, bits, 0))
    group = PromptGroup.quantized(
        "text-context", quantized.codebook, quantized.indices.reshape(weights.shape), bits
    )
    read = decode_group(encode_group(group)).values()
    assert read.dtype == quantized.values.dtype == np.float32
    assert read.shape == quantized.values.shape == weights.shape
    assert read.tobytes() == quantized.values.tobytes()


@pytest.mark.parametrize("bits", [1, 4])
def test_codebook_is_the_centroids_with_mean_and_sigma_folded_in(bits: float) -> None:
    weights = np.random.default_rng(9).normal(0.5, 0.03, 2000).astype(np.float32)
    book = cluster(weights, bits, 0)
    expected = weights.std(dtype=np.float64) * book.centroids + weights.mean(dtype=np.float64)
    gap = np.abs(quantize(weights, book).codebook.astype(np.float64) - expected).max()
    assert gap <= 0.5 * np.spacing(np.float16(1)), f"{gap:.2e}"


@pytest.mark.parametrize("bits", BIT_WIDTHS)
@pytest.mark.parametrize("value", [0.0, 0.25, -3.0])
def test_constant_weights_stay_what_they_are(value: float, bits: float) -> None:
    weights = np.full((4, 8), value, np.float32)
    book = cluster(weights, bits, 0)
    assert np.array_equal(quantize(weights, book).values, weights)
    assert np.isfinite(divergence(weights, book))


def test_more_bits_lose_less() -> None:
    weights = np.random.default_rng(10).normal(size=2048).astype(np.float32)
    errors = [
        np.abs(quantize(weights, cluster(weights, bits, 0)).values - weights).mean() for bits in BIT_WIDTHS
    ]
    assert errors == sorted(errors, reverse=True)
