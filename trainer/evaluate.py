"""The best weights against the tails: forecasts, scores beside the naive rivals, a look inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.evaluation.inputs import EvaluationInputs, ForecastSet
from trainer.evaluation.result import evaluate
from trainer.forecasting import forecast, forward_batch_size
from trainer.interpretation import interpret
from trainer.observer import obey_stop_wish

if TYPE_CHECKING:
    from trainer.fit import FittedRun
    from trainer.interpretation import Interpretation
    from trainer.observer import Observer
    from trainer.prepare import PreparedRun
    from trainer.split import Windows

# Scores are taken on every window of a tail up to this many, beyond that on every k-th, k <= horizon.
SCORED_WINDOWS = 20_000
# A forward takes a third of a training step: looking inside costs less than a tenth of what training did.
WINDOWS_TRAINED_PER_LOOK = 4


@dataclass(frozen=True)
class Evaluation:
    """Scores as in result.json, the forecasts they are of, and what the network looked at."""

    scores: dict[str, Any]
    validation: Windows
    test: Windows | None
    interpretation: Interpretation


def evaluate_best(run: PreparedRun, fitted: FittedRun, observer: Observer) -> Evaluation:
    """Forecast validation and test tails with the weights in the model, in float32, and score them.

    The test tail is read here and nowhere before. Raises StopRequested between batches.
    """
    validation = run.split.validation.thinned(SCORED_WINDOWS, run.spec.horizon)
    test = None if run.split.test is None else run.split.test.thinned(SCORED_WINDOWS, run.spec.horizon)
    inputs = EvaluationInputs(
        series=run.series,
        targets=run.layout.targets,
        quantiles=tuple(run.spec.quantiles),
        encoder_length=run.spec.encoder_length,
        horizon=run.spec.horizon,
        train_end=run.split.train_end,
        validation_end=run.split.validation_end,
        validation=_forecast_set(run, fitted, validation, observer),
        test=None if test is None else _forecast_set(run, fitted, test, observer),
        calibration=run.spec.calibration,
        seed=run.spec.random_seed,
    )
    scores = evaluate(inputs)
    obey_stop_wish(observer, fitted.steps)
    interpretation = interpret(
        run.model,
        run.source,
        run.split.validation,
        forward_batch_size(run.spec, run.layout, run.device),
        forwards=fitted.steps * run.spec.effective_batch_size // WINDOWS_TRAINED_PER_LOOK,
        seed=run.spec.random_seed,
        between_batches=lambda: obey_stop_wish(observer, fitted.steps),
    )
    return Evaluation(scores, validation, test, interpretation)


def _forecast_set(run: PreparedRun, fitted: FittedRun, windows: Windows, observer: Observer) -> ForecastSet:
    """Forecasts of all the windows; sorted, so that quantiles never cross."""
    quantiles = forecast(
        run.model,
        run.source,
        windows,
        forward_batch_size(run.spec, run.layout, run.device),
        between_batches=lambda: obey_stop_wish(observer, fitted.steps),
    )
    series, origins = windows.locate(np.arange(windows.total))
    return ForecastSet(series, origins, np.sort(quantiles, axis=-1))
