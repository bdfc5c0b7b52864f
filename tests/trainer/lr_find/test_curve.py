"""The suggestion against the known steepest descent of noisy curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch

from trainer.lr_find.curve import has_blown_up, read_curve, suggest

FloatArray = npt.NDArray[np.float64]
CURVES = 200
WITHIN = np.log10(3.0)  # decades


@dataclass(frozen=True)
class NoisyCurve:
    """A range test as it might come out, and the rate at which its noise-free curve falls fastest."""

    rates: FloatArray
    losses: FloatArray
    steepest: float


def noisy_curve(random: np.random.Generator) -> NoisyCurve:
    """A high plateau, a smooth descent centred between 1e-5 and 1e-1, a low plateau, and mostly a blow-up.

    50 to 300 rates; the noise's deviation is 5 to 20 % of the drop.
    """
    sweeps = [(1e-6, 1.0), (1e-7, 1.0), (1e-5, 0.3)]
    low, high = sweeps[random.integers(len(sweeps))]
    x = np.linspace(np.log10(low), np.log10(high), int(random.integers(50, 301)))
    centre, width, drop = random.uniform(-5, -1), random.uniform(0.3, 1.5), 10 ** random.uniform(-2, 1)
    z = (x - centre) / width
    shapes = [
        0.5 * (1 + np.tanh(2 * z)),
        1 / (1 + np.exp(-4.4 * z)),
        0.5 + np.arctan(4 * z) / np.pi,
        0.5 + 0.5 * np.sin(np.pi * np.clip(z, -0.5, 0.5)),
    ]
    after = np.maximum(x - centre - width / 2 - random.uniform(0.4, 2.0), 0.0)
    blow_ups = [0 * after, after, after**2, np.expm1(3 * after), np.expm1(np.minimum(20 * after, 60))]
    steepness = 10 ** random.uniform(-0.5, 1)
    loss = 1 - shapes[random.integers(len(shapes))] + steepness * blow_ups[random.integers(len(blow_ups))]
    noise = random.normal(0, random.uniform(0.05, 0.2), len(x))
    level = random.uniform(0.1, 10)
    return NoisyCurve(10**x, drop * (level + loss + noise), 10**centre)


def share_found(suggestions: list[float | None], curves: list[NoisyCurve]) -> float:
    """How many suggestions are within a factor of 3 of the true steepest descent."""
    found = [
        rate is not None and abs(np.log10(rate / curve.steepest)) <= WITHIN
        for rate, curve in zip(suggestions, curves, strict=True)
    ]
    return float(np.mean(found))


def curves_of(seed: int) -> list[NoisyCurve]:
    random = np.random.default_rng(seed)
    return [noisy_curve(random) for _ in range(CURVES)]


def lightnings_suggestion(curve: NoisyCurve) -> float:
    """Slope against the rate itself between neighbouring points: lightning/pytorch/tuner/lr_finder.py."""
    rates, losses = torch.tensor(curve.rates[10:-1]), torch.tensor(curve.losses[10:-1])
    return float(rates[torch.argmin(torch.gradient(losses, spacing=[rates])[0])])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_nineteen_of_twenty_suggestions_are_near_the_steepest_descent(seed: int) -> None:
    curves = curves_of(seed)

    assert share_found([suggest(curve.rates, curve.losses) for curve in curves], curves) >= 0.95


def test_the_slope_against_the_rate_itself_fails_on_the_same_curves() -> None:
    curves = curves_of(0)

    assert share_found([lightnings_suggestion(curve) for curve in curves], curves) < 0.3


def test_batches_of_odd_windows_do_not_hide_the_descent() -> None:
    """One loss in ten lies one to three drops above the others, as on the Google trace."""
    random = np.random.default_rng(8)
    curves = curves_of(8)
    spiky = []
    for curve in curves:
        drop = np.quantile(curve.losses, 0.9) - curve.losses.min()
        hit = random.random(len(curve.losses)) < 0.1
        spiky.append(curve.losses + hit * drop * random.uniform(1, 3, len(curve.losses)))

    found = [suggest(curve.rates, losses) for curve, losses in zip(curves, spiky, strict=True)]

    assert share_found(found, curves) >= 0.8


def test_what_follows_the_last_finite_loss_is_left_out() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        curve = noisy_curve(random)
        broken = curve.losses.copy()
        broken[-5:] = [np.nan, np.inf, np.inf, np.nan, np.nan]
        reading = read_curve(curve.rates, broken)

        assert reading.rate == suggest(curve.rates[:-5], curve.losses[:-5])
        assert reading.smoothed[-5:] == [None] * 5


@pytest.mark.parametrize("shape", ["flat", "rising", "blowing up"])
def test_a_curve_without_a_descent_hardly_ever_suggests_a_rate(shape: str) -> None:
    random = np.random.default_rng(5)
    x = np.linspace(-6, 0, 100)
    trend = {"flat": 0 * x, "rising": x / 6, "blowing up": np.exp(6 * (x + 1))}[shape]

    suggested = [suggest(10**x, 1 + trend + random.normal(0, 0.1, len(x))) for _ in range(CURVES)]

    assert sum(rate is not None for rate in suggested) <= 0.02 * CURVES


@pytest.mark.parametrize("loss", [0.3, np.nan, np.inf])
def test_a_loss_that_never_changes_or_is_no_number_suggests_nothing_and_says_why(loss: float) -> None:
    reading = read_curve(np.geomspace(1e-6, 1, 100), np.full(100, loss))

    assert reading.rate is None
    assert reading.smoothed == [None] * 100
    assert "loss" in reading.reason


def test_a_curve_has_blown_up_when_it_is_far_above_its_lowest_level() -> None:
    down_and_up = [1.0] * 20 + [0.2] * 20 + [0.9] * 20

    assert next(count for count in range(61) if has_blown_up(down_and_up[:count])) == 45
    assert not has_blown_up([1.0] * 60)
    assert not has_blown_up([0.2] * 20 + [3.0] * 1)  # one odd batch


def test_the_suggestion_is_never_at_the_ends_of_the_sweep() -> None:
    x = np.linspace(-4, -1, 60)
    for losses in (-np.exp(-(x + 4)), -np.exp(x), 1 / (1 + np.exp(8 * (x + 4))), -np.exp(4 * (x + 1))):
        rate = suggest(10**x, losses + np.random.default_rng(0).normal(0, 1e-3, len(x)))

        assert rate is None or 10**-3.9 < rate < 10**-1.03


def test_the_same_curve_gives_the_same_suggestion_in_any_unit() -> None:
    curve = noisy_curve(np.random.default_rng(8))

    first = suggest(curve.rates, curve.losses)

    assert first == suggest(curve.rates, curve.losses)
    assert first == suggest(curve.rates, 1024 * curve.losses)
    assert suggest(curve.rates, [float(np.float32(loss)) for loss in curve.losses]) == pytest.approx(first)


def test_the_smoothed_curve_is_nearer_the_truth_than_the_noisy_one() -> None:
    x = np.linspace(-6, 0, 100)
    truth = 1 / (1 + np.exp(3 * (x + 3)))
    noisy = truth + np.random.default_rng(2).normal(0, 0.1, len(x))

    smoothed = np.array(read_curve(10**x, noisy).smoothed, dtype=np.float64)

    assert np.abs(smoothed - truth).mean() < 0.3 * np.abs(noisy - truth).mean()
