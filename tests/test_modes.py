"""Numbers as Gaussian modes with an offset, and the mixture that finds the modes."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.mixture import BayesianGaussianMixture

from raysynth import mixture
from raysynth.codecs import ColumnCodes, modes
from raysynth.errors import TableError
from raysynth.mixture import Mixture
from raysynth.schema import TYPES
from tests.columns import chance, summarised
from tests.test_codecs import leaves

LEAST = 10


def wide(rows: int = 20_000, seed: int = 5) -> np.ndarray:
    g = np.random.default_rng(seed)
    return np.concatenate(
        [
            g.normal(-20, 1, rows // 2),
            g.normal(0, 0.5, rows // 5),
            g.normal(30, 3, rows - rows // 2 - rows // 5),
        ]
    )


def ordered(weights: Any, means: Any, stds: Any) -> np.ndarray:
    """Weights, means and widths by mean, (3, M)."""
    return np.stack([np.asarray(part).ravel() for part in (weights, means, stds)])[
        :, np.argsort(np.ravel(means))
    ]


def test_mixture_agrees_with_scikit_learn_on_modes_well_apart() -> None:
    values = wide()[::4]  # few enough that none are joined
    ours = mixture.fit(values, 3, 0.005)
    mine = ordered(ours.weights, ours.means, ours.stds)
    # With our priors theirs is the same model; their own weigh a whole row and widen modes.
    prior = mixture.PRIOR * values.var()
    weak = {"covariance_prior": [[prior]], "mean_precision_prior": mixture.PRIOR, "reg_covar": 0.0}
    for priors, parts, close in (({}, 2, 0.05), (weak, 3, 1e-3)):
        found = BayesianGaussianMixture(
            n_components=3,
            weight_concentration_prior_type="dirichlet_process",
            weight_concentration_prior=mixture.CONCENTRATION,
            max_iter=500,
            tol=1e-6,
            random_state=0,
            **priors,
        ).fit(values[:, None])
        theirs = ordered(found.weights_, found.means_, np.sqrt(found.covariances_))
        assert mine.shape == theirs.shape == (3, 3)
        assert np.allclose(mine[:parts], theirs[:parts], rtol=close, atol=close)


def test_mixture_finds_true_modes_with_modes_to_spare() -> None:
    found = mixture.fit(wide(), 10, 0.005)
    edges = [-100.0, -10.0, 8.0, 100.0]
    place = np.digitize(found.means, edges) - 1
    weights = np.bincount(place, found.weights, 3)
    means = np.bincount(place, found.weights * found.means, 3) / weights
    assert np.allclose(weights, [0.5, 0.2, 0.3], atol=0.005)
    assert np.allclose(means, [-20, 0, 30], atol=0.1)


def test_counted_values_weigh_as_much_as_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    g = np.random.default_rng(2)
    values = np.round(np.concatenate([g.normal(0, 1, 900), g.normal(9, 1, 600)]), 1)
    grouped = mixture.fit(values, 2, 0.005)
    monkeypatch.setattr(mixture, "_group", lambda v: (np.sort(v), np.ones(len(v))))
    single = mixture.fit(values, 2, 0.005)
    for name in ("weights", "means", "stds"):
        assert np.allclose(getattr(grouped, name), getattr(single, name), rtol=1e-3, atol=1e-3)


def test_joining_neighbours_does_not_move_the_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    values = wide(8_000)
    joined = mixture.fit(values, 3, 0.005)
    monkeypatch.setattr(mixture, "POINTS", 10_000)
    whole = mixture.fit(values, 3, 0.005)
    for name in ("weights", "means", "stds"):
        assert np.allclose(getattr(joined, name), getattr(whole, name), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.2, 0.9])
@pytest.mark.parametrize("at", [0.0, 20.0, -300.0])
def test_a_spike_decodes_to_itself(share: float, at: float) -> None:
    """The same value in many rows is a mode of no width, wherever it lies among the others."""
    values = np.random.default_rng(0).normal(size=10_000)
    values[: int(share * 10_000)] = at
    codec = modes.Codec.fit(summarised(pa.array(values)))
    codes = codec.encode(pa.array(values), chance(10_000))
    back = np.asarray(codec.decode(codes, chance(10_000)))
    exact = np.abs(back[: int(share * 10_000)] - at) < 1e-3
    assert exact.mean() > 0.99


def test_every_mode_stands_for_more_rows_than_may_be_shown() -> None:
    g = np.random.default_rng(0)
    alone = 50.123456
    for rows in (100, 150, 1_000):
        values = np.concatenate([g.normal(0, 1, rows // 2), g.normal(100, 1, rows - rows // 2)])
        values[0] = alone
        codec = modes.Codec.fit(summarised(pa.array(values)), least=LEAST)
        written = [v for v in leaves(codec.to_json()) if isinstance(v, float)]
        assert min(abs(v - alone) for v in written) > 1
        assert all(weight * rows > LEAST for weight in codec.weights)


@pytest.mark.parametrize("count", [LEAST, 2 * LEAST - 1])
def test_too_few_values_for_ends_that_enough_rows_reach_are_refused(count: int) -> None:
    values = pa.array([*np.random.default_rng(0).normal(size=count), *[None] * 100])
    with pytest.raises(TableError, match=f"has {count} values that are not null; at least 20"):
        modes.Codec.fit(summarised(values), least=LEAST)


def test_no_decoded_value_lies_past_the_ends() -> None:
    values = pa.array(np.random.default_rng(0).standard_cauchy(5_000))
    codec = modes.Codec.fit(summarised(values), least=LEAST)
    g = np.random.default_rng(1)
    wild = ColumnCodes(
        g.integers(0, codec.parts[1].size, (5_000, 1)).astype(np.int32),
        g.uniform(-3, 3, (5_000, 1)).astype(np.float32),
    )
    back = np.asarray(codec.decode(wild, chance(5_000)))
    assert back.min() >= codec.lower
    assert back.max() <= codec.upper


@pytest.mark.parametrize("decimals", [0, 1, 2, 6])
@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_decimals_come_back(decimals: int, scale: float) -> None:
    values = np.round(np.random.default_rng(0).normal(0, scale, 2_000), decimals)
    codec = modes.Codec.fit(summarised(pa.array(values)))
    assert codec.decimals == decimals
    g = np.random.default_rng(1)
    drawn = ColumnCodes(
        g.integers(0, len(codec.means), (500, 1)).astype(np.int32),
        g.uniform(-1, 1, (500, 1)).astype(np.float32),
    )
    back = np.asarray(codec.decode(drawn, chance(500)))
    assert np.array_equal(back, np.round(back, decimals))


@pytest.mark.parametrize("scale", [1e-300, 1e-13, 1.0, 1e150, 1e300])
def test_floats_of_any_size_come_back(scale: float) -> None:
    values = np.random.default_rng(0).normal(size=2_000) * scale
    codec = modes.Codec.fit(summarised(pa.array(values)))
    codes = codec.encode(pa.array(values), chance(2_000))
    back = np.asarray(codec.decode(codes, chance(2_000)))
    inside = (values >= codec.lower) & (values <= codec.upper)
    assert np.allclose(back[inside] / scale, values[inside] / scale, atol=1e-5)


@pytest.mark.parametrize("kind", ["int64", "uint64"])
def test_the_largest_whole_numbers_do_not_wrap(kind: str) -> None:
    most = np.iinfo(kind).max
    values = pa.array([most] * 100 + [most - 2**40] * 100, TYPES[kind])
    codec = modes.Codec.fit(summarised(values))
    back = codec.decode(codec.encode(values, chance(200)), chance(200)).to_pylist()
    assert [value > most - 2**39 for value in back] == [True] * 100 + [False] * 100
    assert min(back) > most - 2**41


def test_a_mode_is_drawn_from_its_posterior() -> None:
    codec = modes.Codec("double", (0.5, 0.5), (0.0, 2.0), (1.0, 1.0), -9.0, 9.0, None, 0.0)
    values = pa.array(np.full(20_000, 0.5))
    drawn = codec.encode(values, chance(20_000)).indices.mean()
    assert drawn == pytest.approx(1 / (1 + np.e), abs=4 * np.sqrt(0.2 / 20_000))


def test_offset_is_a_quarter_of_the_distance_in_widths() -> None:
    codec = modes.Codec("double", (1.0,), (10.0,), (2.0,), -90.0, 90.0, None, 0.0)
    codes = codec.encode(pa.array([10.0, 14.0, 6.0, 90.0, -90.0]), chance(5))
    assert codes.scalars[:, 0] == pytest.approx([0, 0.5, -0.5, 0.99, -0.99])


def test_null_is_a_mode_of_its_own_or_a_value_where_too_few() -> None:
    g = np.random.default_rng(0)
    for nulls in (LEAST - 1, LEAST):
        values = pa.array([*g.normal(size=500), *[None] * nulls])
        codec = modes.Codec.fit(summarised(values), least=LEAST)
        back = codec.decode(codec.encode(values, chance(500 + nulls)), chance(500 + nulls))
        assert back.null_count == (nulls if nulls >= LEAST else 0)
        assert codec.index_of(None) == (len(codec.means) if nulls >= LEAST else None)


def test_log_density_is_that_of_weighted_gaussians() -> None:
    found = Mixture(np.array([0.3, 0.7]), np.array([0.0, 1.0]), np.array([1.0, 0.1]))
    grid = np.linspace(-9, 9, 200_001)
    mass = np.exp(found.log_density(grid)).sum(axis=0) * (grid[1] - grid[0])
    assert mass == pytest.approx([0.3, 0.7], abs=1e-6)
