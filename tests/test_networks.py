"""Layers that families share."""

import math

import torch
from scipy import stats
from torch.distributions import Categorical, MixtureSameFamily, Normal

from raysynth.networks import FEATURES, NARROWEST, gumbel, harden, log_density, soften, waves
from tests.training import Fitted, Seeded, assert_dense


def test_gumbel_noise_has_its_distribution_and_no_infinity(seeded: Seeded) -> None:
    drawn = gumbel(torch.empty(100_000), seeded(0))
    assert drawn.isfinite().all()
    assert stats.kstest(drawn.numpy(), stats.gumbel_r.cdf).pvalue > 1e-3


def test_harden_draws_categories_by_softmax(fitted: Fitted, seeded: Seeded) -> None:
    layout = fitted["mixed"][0].layout
    logits = torch.randn(1, layout.width, generator=seeded(1)) * 2
    drawn = harden(logits.expand(20_000, -1), layout, seeded(2))
    for span in layout.choices:
        counts = drawn.indices[:, span.slot].long().bincount(minlength=span.size).numpy()
        expected = logits[0, span.slice].double().softmax(0).numpy() * 20_000
        assert stats.chisquare(counts, expected / expected.sum() * 20_000).pvalue > 1e-4
    for span in layout.scalars:
        told = logits[0, span.start].tanh()
        assert torch.allclose(drawn.scalars[:, span.slot], told)


def test_soften_is_a_softmax_of_noisy_logits_in_each_block(fitted: Fitted, seeded: Seeded) -> None:
    """Cold, it agrees with argmax; it is differentiable everywhere."""
    layout = fitted["mixed"][0].layout
    logits = torch.randn(500, layout.width, generator=seeded(1)).requires_grad_()
    dense = soften(logits, layout, 0.2, seeded(2))
    assert_dense(dense, layout)
    cold = soften(logits, layout, 1e-4, seeded(2))
    for span in layout.choices:
        assert torch.equal(cold[:, span.slice].argmax(1), dense[:, span.slice].argmax(1))
        assert cold[:, span.slice].max(1).values.mean() > 0.999
    dense.square().sum().backward()
    assert logits.grad is not None
    assert (logits.grad != 0).any(0).all()


def test_a_log_density_is_that_of_torchs_mixture_of_normals_within_bounds(seeded: Seeded) -> None:
    parameters = torch.randn(4, 50, 3 * 5, generator=seeded(0))
    parameters[0, :, 10:] -= 20
    scalars = torch.rand(4, 50, generator=seeded(1)) * 2 - 1
    weights, means, stds = parameters.chunk(3, -1)
    normals = Normal(means, stds.exp().clamp(NARROWEST, math.exp(2)))
    expected = MixtureSameFamily(Categorical(logits=weights), normals).log_prob(scalars)
    assert torch.allclose(log_density(scalars, parameters), expected, rtol=1e-4, atol=1e-4)


def test_waves_tell_scalars_apart_even_where_one_of_them_repeats() -> None:
    told = waves(torch.linspace(-1, 1, 401))
    assert told.shape == (401, FEATURES)
    assert torch.pdist(told).min() > 0.02
