"""Numbers as Gaussian modes with an offset, and the mixture that finds the modes."""

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.mixture import BayesianGaussianMixture

from raysynth import mixture
from raysynth.codecs import ColumnCodes, modes
from raysynth.errors import TableError
from raysynth.mixture import Mixture
from raysynth.numeric import Scale
from raysynth.summary import Summary
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
@pytest.mark.parametrize("at", [0.0, 20.0, -300.0, 0.1234567890123])
def test_a_spike_is_an_index_of_its_own_and_decodes_to_itself(share: float, at: float) -> None:
    """Wherever it lies among the others, and whatever offset a network gives it."""
    values = np.random.default_rng(0).normal(size=10_000)
    values[: int(share * 10_000)] = at
    codec = modes.Codec.fit(summarised(pa.array(values)))
    assert codec.spikes == (at,)
    assert codec.index_of(at) == len(codec.means)
    codes = codec.encode(pa.array(values), chance(10_000))
    spiked = codes.indices[:, 0] == len(codec.means)
    assert np.array_equal(spiked, values == at)
    assert not codes.scalars[spiked].any()
    wild = ColumnCodes(codes.indices, codes.scalars + np.float32(0.1))
    back = np.asarray(codec.decode(wild, chance(10_000)))
    assert (back[spiked] == at).all()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("age", ()),
        ("education-num", ()),
        ("fnlwgt", ()),
        ("hours-per-week", (40,)),
        ("capital-loss", (0,)),
        ("capital-gain", (0, 7_298, 7_688, 15_024, 99_999)),
    ],
)
def test_spikes_of_adult(name: str, found: tuple[int, ...], adult_summary: Summary) -> None:
    codec = modes.Codec.fit(adult_summary[name])
    assert codec.spikes == found


def test_sentinels_beside_and_far_from_the_others_are_found() -> None:
    g = np.random.default_rng(0)
    ages = g.integers(0, 90, 5_000)
    ages[:1_000], ages[1_000:1_015] = -1, 999
    codec = modes.Codec.fit(summarised(pa.array(ages)))
    assert codec.spikes == (-1, 999)
    whole = pa.array([*g.integers(1, 6, 3_000)])  # a scale of one to five repeats, and no more
    assert modes.Codec.fit(summarised(whole)).spikes == ()


def test_time_has_spikes() -> None:
    g = np.random.default_rng(0)
    days = g.integers(10_000, 20_000, 4_000)
    days[:400] = 2_932_896  # 9999-12-31
    values = pa.array(days, pa.int32()).cast(pa.date32())
    codec = modes.Codec.fit(summarised(values))
    assert codec.index_of(date(9999, 12, 31)) == len(codec.means)
    codes = codec.encode(values, chance(4_000))
    assert codec.decode(codes, chance(4_000)).slice(0, 400).equals(values.slice(0, 400))


def test_a_spike_has_enough_holders() -> None:
    values = np.random.default_rng(0).normal(size=1_000)
    values[:100] = 5.0
    for holders, found in ((10, (5.0,)), (9, ())):
        whose = np.arange(1_000)
        whose[:100] %= holders
        codec = modes.Codec.fit(summarised(pa.array(values), holders=whose), least=LEAST)
        assert codec.spikes == found


def test_a_mode_of_one_holder_is_not_written() -> None:
    g = np.random.default_rng(0)
    values = np.concatenate([g.normal(0, 1, 600), g.normal(100, 1, 400)])
    whose = np.r_[np.arange(600), np.full(400, 600)]
    apart = modes.Codec.fit(summarised(pa.array(values)), least=LEAST)
    assert max(apart.means) > 90
    codec = modes.Codec.fit(summarised(pa.array(values), holders=whose), least=LEAST)
    assert max(codec.means) < 90
    # Its rows lie past the upper end, which ten holders must reach.
    assert codec.scale.upper < 90


@pytest.mark.parametrize(
    ("shape", "wide"), [("lognormal", 3.0), ("cauchy", 1.0), ("pareto", 1.0), ("cauchy", 1e-9)]
)
def test_heavy_tails_come_back_up_to_the_ends(shape: str, wide: float) -> None:
    g = np.random.default_rng(1)
    draw = {
        "lognormal": lambda: g.lognormal(0, 2.5, 20_000),
        "cauchy": lambda: g.standard_cauchy(20_000),
        "pareto": lambda: g.pareto(1, 20_000),
    }
    values = wide * draw[shape]()
    codec = modes.Codec.fit(summarised(pa.array(values)))
    codes = codec.encode(pa.array(values), chance(20_000))
    assert np.abs(codes.scalars).max() < 0.9901
    back = np.asarray(codec.decode(codes, chance(20_000)))
    cut = np.clip(values, *codec.scale.ends)
    assert (cut != values).sum() == 2 * (LEAST - 1)
    reach = np.array([*codec.reaches, *[0.0] * len(codec.spikes)])[codes.indices[:, 0]]
    assert (np.abs(back - cut) <= reach * 2.0**-24 + 1e-12 * np.abs(cut)).all()
    # The body does not suffer from the tail.
    middle = np.abs(values - np.median(values)) < wide
    assert np.quantile(np.abs(back - values)[middle], 0.99) < 1e-5 * wide


def test_a_longer_reach_does_not_tell_where_a_lone_value_lies() -> None:
    g = np.random.default_rng(0)
    values = np.concatenate([g.normal(0, 1, 2_000), [7.123456], np.full(30, 60.0)])
    codec = modes.Codec.fit(summarised(pa.array(values)), least=LEAST)
    ratios = np.array(codec.reaches) / np.array(codec.stds) / 4
    assert np.allclose(np.exp2(np.rint(2 * np.log2(ratios)) / 2), ratios)
    codes = codec.encode(pa.array(values), chance(len(values)))
    back = codec.decode(codes, chance(len(values))).to_pylist()
    assert back[2_000] == pytest.approx(7.123456, abs=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_fixed_number_of_modes_is_kept(count: int) -> None:
    values = np.random.default_rng(0).normal(size=5_000)
    codec = modes.Codec.fit(summarised(pa.array(values)), modes=count, prune=False)
    assert len(codec.means) == count
    assert codec.spikes == ()


@pytest.mark.parametrize("apart", [1, 2, 3, 6])
def test_modes_are_counted_by_peaks_of_the_density(apart: int) -> None:
    g = np.random.default_rng(0)
    values = 20.0 * g.integers(0, apart, 6_000) + g.normal(0, 1, 6_000)
    assert mixture.peaks(values, 0.005) == apart
    codec = modes.Codec.fit(summarised(pa.array(values)), count="density")
    assert len(codec.means) == apart
    assert np.allclose(codec.means, 20.0 * np.arange(apart), atol=0.3)


def test_peaks_are_those_of_the_exact_kernel_density() -> None:
    g = np.random.default_rng(3)
    for _ in range(5):
        values = np.concatenate([g.normal(m, s, 400) for m, s in ((0, 1), (4, 0.5), (9, 2))])
        width = 0.9 * min(values.std(), np.subtract(*np.quantile(values, [0.75, 0.25])) / 1.34)
        width *= len(values) ** -0.2
        grid = np.linspace(values.min() - 1, values.max() + 1, 2_000)
        density = np.exp(-0.5 * ((grid[:, None] - values) / width) ** 2).sum(axis=1)
        exact = ((density[1:-1] > density[:-2]) & (density[1:-1] > density[2:])).sum()
        assert mixture.peaks(values, 0.0) == exact


@pytest.mark.parametrize("shape", ["cauchy", "one", "two"])
def test_lone_values_make_no_peaks(shape: str) -> None:
    g = np.random.default_rng(0)
    values = {
        "cauchy": lambda: g.standard_cauchy(5_000),
        "one": lambda: np.full(50, 3.0),
        "two": lambda: np.r_[np.zeros(900), np.ones(1)],
    }[shape]()
    assert mixture.peaks(values, 0.02) == 1


@pytest.mark.parametrize("nulls", [0, 30])
@pytest.mark.parametrize("cell", [7, 7.25, -3])
def test_one_value_is_one_spike_and_no_mode(cell: float, nulls: int) -> None:
    values = pa.array([cell] * 100 + [None] * nulls)
    codec = modes.Codec.fit(summarised(values))
    assert (codec.means, codec.spikes, codec.parts[1].size) == ((), (cell,), 1 + bool(nulls))
    assert codec.decode(codec.encode(values, chance(len(values))), chance(1)).equals(values)


def test_near_unique_numbers_come_back() -> None:
    values = pa.array(np.random.default_rng(0).permutation(10_000_000)[:30_000] + 10**9)
    codec = modes.Codec.fit(summarised(values))
    assert codec.spikes == ()
    back = codec.decode(codec.encode(values, chance(30_000)), chance(30_000))
    off = np.abs(np.asarray(back) - np.asarray(values))
    assert (off > 0).sum() <= 2 * (LEAST - 1)


def test_rows_too_few_for_a_mode_become_the_nearest_spike() -> None:
    values = pa.array([0.0] * 200 + [10.0] * 100 + [1.5, 8.9, 9.1])
    codec = modes.Codec.fit(summarised(values), least=LEAST)
    assert (codec.means, codec.spikes) == ((), (0.0, 10.0))
    back = codec.decode(codec.encode(values, chance(303)), chance(303)).to_pylist()
    assert back[300:] == [0.0, 10.0, 10.0]


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
    assert back.min() >= codec.scale.lower
    assert back.max() <= codec.scale.upper


@pytest.mark.parametrize("decimals", [0, 1, 2, 6])
@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_decimals_come_back(decimals: int, scale: float) -> None:
    values = np.round(np.random.default_rng(0).normal(0, scale, 2_000), decimals)
    codec = modes.Codec.fit(summarised(pa.array(values)))
    assert codec.scale.decimals == decimals
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
    inside = (values >= codec.scale.lower) & (values <= codec.scale.upper)
    assert np.allclose(back[inside] / scale, values[inside] / scale, atol=1e-5)


def made(means: tuple[float, ...], std: float, end: float) -> modes.Codec:
    """A codec of equal modes on numbers from -end to end."""
    many = len(means)
    scale, stds = Scale("double", -end, end), (std,) * many
    return modes.Codec(scale, (1 / many,) * many, means, stds, (4 * std,) * many, (), 0.0)


def test_a_mode_is_drawn_from_its_posterior() -> None:
    codec = made((0.0, 2.0), 1.0, 9.0)
    values = pa.array(np.full(20_000, 0.5))
    drawn = codec.encode(values, chance(20_000)).indices.mean()
    assert drawn == pytest.approx(1 / (1 + np.e), abs=4 * np.sqrt(0.2 / 20_000))


def test_offset_is_a_quarter_of_the_distance_in_widths() -> None:
    codec = made((10.0,), 2.0, 90.0)
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
    mass = np.exp(found.log_density(grid)).sum(axis=1) * (grid[1] - grid[0])
    assert mass == pytest.approx([0.3, 0.7], abs=1e-6)
