"""A second evaluation: plain loops, written from the formulas, no line shared with ours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.dataset.series import SeriesData
from trainer.evaluation.inputs import EvaluationInputs, ForecastSet
from trainer.evaluation.result import evaluate

QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
MEDIAN = 3
PAIRS = {"96": (0, 6, 0.96), "80": (1, 5, 0.8), "50": (2, 4, 0.5)}
USUAL = {"0.1": 1, "0.5": 3, "0.9": 5}
TARGETS = ("cpu", "net")
HORIZON = 6
SECONDS = 900.0
SEED = 11

Numbers = list[float]


@dataclass(frozen=True)
class Case:
    """Ragged series with masked steps, and forecasts of their tails."""

    inputs: EvaluationInputs
    scores: dict[str, Any]

    def value(self, target: str, row: int) -> float:
        return float(self.inputs.series.values[target][row])

    def seen(self, target: str, row: int) -> bool:
        return bool(self.inputs.series.observed[target][row])

    def counts(self, target: str, series: int, origin: int, ahead: int) -> bool:
        """Seen, and in a window in whose encoder the target was seen at all."""
        encoder = range(max(origin - self.inputs.encoder_length, self.start(series)), origin)
        return self.seen(target, origin + ahead) and any(self.seen(target, row) for row in encoder)

    def known(self, target: str, series: int, origin: int, row: int) -> float:
        """The value at a row before the origin; the last one seen if the gap there is open at the origin."""
        if any(self.seen(target, later) for later in range(row, origin)):
            return self.value(target, row)
        seen = [at for at in range(self.start(series), row) if self.seen(target, at)]
        return self.value(target, seen[-1]) if seen else 0.0

    def start(self, series: int) -> int:
        return int(self.inputs.series.offsets[series])

    def scored(self) -> list[tuple[int, int]]:
        """Series and origin of every window of the test tails."""
        assert self.inputs.test is not None
        return windows_of(self.inputs.test)


def windows_of(forecasts: ForecastSet) -> list[tuple[int, int]]:
    return list(zip(forecasts.series_index.tolist(), forecasts.origin_row.tolist(), strict=True))


def random_case(seed: int, servers: int = 14) -> Case:
    """Waves with noise; some steps masked, one server nearly all masked, one with a short training part."""
    random = np.random.default_rng(seed)
    lengths = random.integers(70, 130, servers)
    lengths[1] = 34
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = int(offsets[-1])
    steps = np.concatenate([np.arange(length) for length in lengths])
    values, observed = {}, {}
    for place, name in enumerate(TARGETS):
        wave = 20 + 60 * place + 5 * np.sin(2 * np.pi * steps / 4) + random.normal(0, 2, rows).cumsum() / 9
        values[name] = (wave + random.normal(0, 1, rows)).astype(np.float32)
        observed[name] = random.random(rows) > 0.08
        observed[name][offsets[2] : offsets[3] - 14] = False
    validation_tail = np.maximum(np.rint(0.2 * lengths).astype(np.int64), HORIZON)
    test_tail = np.maximum(np.rint(0.15 * lengths).astype(np.int64), HORIZON)
    series = SeriesData(
        series_names=[f"s{place:02d}" for place in range(servers)],
        offsets=offsets,
        times=(steps * int(SECONDS * 1e6)).astype(np.int64),
        frequency_seconds=SECONDS,
        values=values,
        observed=observed,
        categories={},
        findings=[],
    )
    validation_end = offsets[1:] - test_tail
    train_end = validation_end - validation_tail
    inputs = EvaluationInputs(
        series=series,
        targets=TARGETS,
        quantiles=QUANTILES,
        encoder_length=8,
        horizon=HORIZON,
        train_end=train_end,
        validation_end=validation_end,
        validation=random_forecasts(random, series, train_end, validation_end),
        test=random_forecasts(random, series, validation_end, offsets[1:]),
        seed=SEED,
    )
    return Case(inputs, evaluate(inputs))


def random_forecasts(random: np.random.Generator, series: SeriesData, first: Any, end: Any) -> ForecastSet:
    """All windows between `first` and `end` of each series, with forecasts that are too sharp."""
    pairs = [(i, origin) for i in range(series.n_series) for origin in range(first[i], end[i] - HORIZON + 1)]
    members, origins = (np.array(part, dtype=np.int64) for part in zip(*pairs, strict=True))
    rows = origins[:, None] + np.arange(HORIZON)
    truth = np.stack([series.values[name][rows] for name in TARGETS], axis=-1).astype(np.float64)
    middle = truth + random.normal(0.3, 1.5, truth.shape)
    spread = np.sort(random.normal(0, 1.0, (*truth.shape, len(QUANTILES))), axis=-1)
    return ForecastSet(members, origins, (middle[..., None] + spread).astype(np.float32))


def pinball(actual: float, forecast: float, quantile: float) -> float:
    return quantile * (actual - forecast) if actual >= forecast else (1 - quantile) * (forecast - actual)


def reference_scores(case: Case, target: str, forecasts: Any, step: int | None = None) -> dict[str, Any]:
    """Every score of forecasts (windows, horizon, quantiles), over all steps or one of the horizon."""
    size = count = absolute = squared = relative = 0.0
    losses = [0.0] * len(QUANTILES)
    inside, widths = dict.fromkeys(PAIRS, 0.0), dict.fromkeys(PAIRS, 0.0)
    floor = reference_floor(case, target)
    for window, (series, origin) in enumerate(case.scored()):
        for ahead in range(HORIZON) if step is None else [step]:
            if not case.counts(target, series, origin, ahead):
                continue
            actual, quantiles = case.value(target, origin + ahead), forecasts[window][ahead]
            error = abs(actual - quantiles[MEDIAN])
            size, count = size + abs(actual), count + 1
            absolute, squared = absolute + error, squared + error * error
            relative += 2 * error / max(abs(actual) + abs(quantiles[MEDIAN]), floor)
            for place, quantile in enumerate(QUANTILES):
                losses[place] += pinball(actual, quantiles[place], quantile)
            for name, (low, high, _) in PAIRS.items():
                inside[name] += quantiles[low] <= actual <= quantiles[high]
                widths[name] += quantiles[high] - quantiles[low]
    risks = [2 * loss / size for loss in losses]
    return {
        "q_risk": sum(risks[place] for place in USUAL.values()) / 3,
        "q_risk_per_quantile": {f"{q:g}": risk for q, risk in zip(QUANTILES, risks, strict=True)},
        "mae": absolute / count,
        "rmse": math.sqrt(squared / count),
        "smape": relative / count,
        "intervals": {
            name: {
                "nominal": PAIRS[name][2],
                "coverage": inside[name] / count,
                "width": widths[name] / count,
            }
            for name in PAIRS
        },
    }


def reference_floor(case: Case, target: str) -> float:
    """A hundredth of the mean size of what was observed in the training parts."""
    sizes = [
        abs(case.value(target, row))
        for series in range(case.inputs.series.n_series)
        for row in range(case.start(series), int(case.inputs.train_end[series]))
        if case.seen(target, row)
    ]
    return sum(sizes) / len(sizes) / 100


def reference_published(case: Case, place: int) -> list[list[Numbers]]:
    """The test forecasts, each quantile moved by the shift that the validation windows tell."""
    assert case.inputs.test is not None
    shifts, floor = reference_shifts(case, place)
    published = []
    for window in case.inputs.test.quantiles[:, :, place].astype(np.float64).tolist():
        moved = []
        for ahead, quantiles in enumerate(window):
            scale = quantiles[-1] - quantiles[0] + floor
            moved.append(
                sorted(level + scale * shifts[index][ahead] for index, level in enumerate(quantiles))
            )
        published.append(moved)
    return published


def reference_shifts(case: Case, place: int) -> tuple[list[Numbers], float]:
    """By quantile and step: how far it moves up, in widths of the widest interval plus the floor."""
    target, forecasts = TARGETS[place], case.inputs.validation
    quantiles = forecasts.quantiles[:, :, place].astype(np.float64).tolist()
    windows = windows_of(forecasts)
    observed = [
        (window, ahead)
        for window, (series, origin) in enumerate(windows)
        for ahead in range(HORIZON)
        if case.counts(target, series, origin, ahead)
    ]
    spans = [quantiles[window][ahead][-1] - quantiles[window][ahead][0] for window, ahead in observed]
    floor = sum(spans) / len(spans) / 100
    trust = reference_trust(windows)
    shifts: list[Numbers] = []
    for index, level in enumerate(QUANTILES):
        errors: list[list[tuple[float, float]]] = [[] for _ in range(HORIZON)]
        for window, ahead in observed:
            levels = quantiles[window][ahead]
            actual = case.value(target, windows[window][1] + ahead)
            error = (actual - levels[index]) / (levels[-1] - levels[0] + floor)
            errors[ahead].append((error, trust[window]))
        everything = [error for step in errors for error in step]
        shifts.append([outward(step if len(step) >= 30 else everything, level) for step in errors])
    return tempered(shifts, len({series for series, _ in windows})), floor


def tempered(shifts: list[Numbers], count: int) -> list[Numbers]:
    """Of what mirrored quantiles move alike, count / (count + 2); of what they move apart, all."""
    share, last = count / (count + 2), len(QUANTILES) - 1
    return [
        [
            (own - other) / 2 + share * (own + other) / 2
            for own, other in zip(shifts[place], shifts[last - place], strict=True)
        ]
        for place in range(len(QUANTILES))
    ]


def reference_trust(windows: list[tuple[int, int]]) -> Numbers:
    """Halved per half-life of age: half a horizon, doubled until 500 windows count; else all alike."""
    newest: dict[int, int] = {}
    for series, origin in windows:
        newest[series] = max(newest.get(series, 0), origin)
    ages = [newest[series] - origin for series, origin in windows]
    half_life = HORIZON / 2
    while half_life < 16 * max(*ages, 1):
        trust = [0.5 ** (age / half_life) for age in ages]
        if sum(trust) ** 2 / sum(one * one for one in trust) >= 500:
            return trust
        half_life *= 2
    return [1.0] * len(ages)


def outward(errors: list[tuple[float, float]], level: float) -> float:
    """The conformal quantile of the errors: rounded up above the median, down below it, the middle at it."""
    up = conformal(errors, level)
    down = -conformal([(-error, weight) for error, weight in errors], 1 - level)
    return up if level > 0.5 else down if level < 0.5 else (up + down) / 2


def conformal(scores: list[tuple[float, float]], nominal: float) -> float:
    """The smallest score up to which the nominal share of the weight lies, one new window included."""
    needed = nominal * (sum(weight for _, weight in scores) + max(weight for _, weight in scores))
    reached = 0.0
    for score, weight in sorted(scores):
        reached += weight
        if reached >= needed - 1e-9:
            return score
    return max(score for score, _ in scores)


def reference_residuals(case: Case, target: str, lag: int) -> dict[int, Numbers]:
    """Quantiles of y[t] - y[t - lag] on each scored series's training part; all together where few."""
    own: dict[int, Numbers] = {}
    for series in sorted({series for series, _ in case.scored()}):
        rows = range(case.start(series) + lag, int(case.inputs.train_end[series]))
        own[series] = [
            case.value(target, row) - case.value(target, row - lag)
            for row in rows
            if case.seen(target, row) and case.seen(target, row - lag)
        ]
    together = [value for values in own.values() for value in values]
    return {
        series: [linear_quantile(values if len(values) >= 20 else together, q) for q in QUANTILES]
        for series, values in own.items()
    }


def linear_quantile(values: Numbers, quantile: float) -> float:
    ranked = sorted(values)
    place = (len(ranked) - 1) * quantile
    below = math.floor(place)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (place - below) * (ranked[above] - ranked[below])


def reference_last_value(case: Case, target: str) -> list[list[Numbers]]:
    residuals = [reference_residuals(case, target, ahead + 1) for ahead in range(HORIZON)]
    return [
        [
            [case.known(target, series, origin, origin - 1) + change for change in residuals[ahead][series]]
            for ahead in range(HORIZON)
        ]
        for series, origin in case.scored()
    ]


def reference_seasonal(case: Case, target: str, season: int) -> list[list[Numbers]]:
    """As many seasons back as the step needs; the last value where that lies before the series."""
    lags = [season * (ahead // season + 1) for ahead in range(HORIZON)]
    residuals = {lag: reference_residuals(case, target, lag) for lag in set(lags)}
    last_value = reference_last_value(case, target)
    forecasts = []
    for window, (series, origin) in enumerate(case.scored()):
        rows = [origin + ahead - lag for ahead, lag in enumerate(lags)]
        if min(rows) < case.start(series):
            forecasts.append(last_value[window])
            continue
        forecasts.append(
            [
                [case.known(target, series, origin, row) + change for change in residuals[lag][series]]
                for row, lag in zip(rows, lags, strict=True)
            ]
        )
    return forecasts


def reference_season(case: Case) -> tuple[str, int] | None:
    """The longest of week, day and hour that fits twice into the median training part."""
    members = sorted({series for series, _ in case.scored()})
    training = float(np.median([int(case.inputs.train_end[i]) - case.start(i) for i in members]))
    for name, seconds in (("week", 604_800), ("day", 86_400), ("hour", 3_600)):
        if 2 * seconds / SECONDS <= int(training):
            return name, int(seconds / SECONDS)
    return None


def reference_blocks(case: Case) -> list[list[list[int]]]:
    """By series: its windows in blocks whose origins span a horizon; a shorter rest joins the last block."""
    found: list[list[list[int]]] = []
    scored = case.scored()
    for member in sorted({series for series, _ in scored}):
        mine = sorted((origin, window) for window, (series, origin) in enumerate(scored) if series == member)
        whole = max((mine[-1][0] - mine[0][0] + 1) // HORIZON, 1)
        blocks: list[list[int]] = [[] for _ in range(whole)]
        for origin, window in mine:
            blocks[min((origin - mine[0][0]) // HORIZON, whole - 1)].append(window)
        found.append([block for block in blocks if block])
    return found


def reference_block_sums(case: Case, target: str, model: Any, rival: Any) -> list[list[tuple[float, float]]]:
    """By series and block: the difference of twice the mean quantile loss, and the sum of |y|."""
    scored = case.scored()

    def sums(windows: list[int]) -> tuple[float, float]:
        difference = size = 0.0
        for window in windows:
            for ahead in range(HORIZON):
                series, origin = scored[window]
                if not case.counts(target, series, origin, ahead):
                    continue
                actual = case.value(target, origin + ahead)
                size += abs(actual)
                for place in USUAL.values():
                    quantile = QUANTILES[place]
                    loss = pinball(actual, model[window][ahead][place], quantile)
                    difference += 2 / 3 * (loss - pinball(actual, rival[window][ahead][place], quantile))
        return difference, size

    return [[sums(block) for block in blocks] for blocks in reference_blocks(case)]


def reference_interval(
    sums: list[list[tuple[float, float]]], random: np.random.Generator, resamples: int = 2000
) -> Numbers:
    """95 % of the differences in q-risk when series, and within each its blocks, are drawn with return."""
    differences = []
    for _ in range(resamples):
        difference = size = 0.0
        for member in random.integers(0, len(sums), len(sums)).tolist():
            for _ in sums[member]:
                block = sums[member][int(random.random() * len(sums[member]))]
                difference, size = difference + block[0], size + block[1]
        differences.append(difference / size)
    return [linear_quantile(differences, 0.025), linear_quantile(differences, 0.975)]
