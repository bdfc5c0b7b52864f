"""What a run will take, in closed forms: windows, steps, parameters, memory, time. Torch-free, numpy-free.

Tested against real splits, networks and trainings.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.run_size import RunSize
from trainer.spec import CALENDAR_FEATURES, TrainingSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trainer.dataset.schema import DatasetSchema


# Of the peak memory of a training on the CPU, fitted to trainings of 16 to 128 hidden units, batches of 32 to
# 512 and encoders of 48 and 144 steps; those are met within this share.
MEMORY_ERROR = 0.25
FIXED_BYTES = 45 * 2**20  # loops, evaluation, report
FLOATS_PER_INPUT = 10  # kept for the backward pass, per input of encoder and decoder, step and hidden unit
FLOATS_PER_SCORE = 1.5  # per attention head and pair of steps
COPIES_OF_WEIGHTS = 36  # gradients, Adam's moments, the best weights, states and checkpoints in the making
BYTES_PER_VALUE = 24  # of the data: as read, as float32, as scaled
MAPPED_SHARE = 1 / 8  # values that take more of the memory lie in files


@dataclass(frozen=True)
class Span:
    """At least `low`, at most `high`; they are the same where the number is exact."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,} to {self.high:,}"


@dataclass(frozen=True)
class Estimate:
    """`memory_bytes` is the peak over what the imports take, on the CPU, of all devices together.

    `seconds` at a measured speed.
    """

    train_windows: Span  # an epoch, after max_train_windows
    validation_windows: Span
    test_windows: Span
    steps: Span  # of the optimizer, unless training stops early
    parameters: Span
    memory_bytes: Span
    seconds: Span | None


@dataclass(frozen=True)
class Inputs:
    """How many inputs the network has; `categories` are how many values each static category takes."""

    known: int
    unknown: int
    targets: int
    categories: tuple[int, ...]

    @classmethod
    def of(cls, spec: TrainingSpec, numeric_columns: list[str], categories: Sequence[int]) -> Inputs:
        """Of a resolved spec, as `trainer.layout.Layout` counts them: two per calendar feature."""
        named = spec.known_covariates or []
        calendar = [name for name in named if name in CALENDAR_FEATURES and name not in numeric_columns]
        targets = len(spec.target_metrics or [])
        return cls(
            known=len(named) + len(calendar) + 1,  # the relative time
            unknown=len(spec.observed_covariates) + targets,
            targets=targets,
            categories=tuple(categories),
        )


def estimate(
    spec: TrainingSpec,
    schema: DatasetSchema,
    *,
    lengths: Sequence[int] | None = None,
    windows_per_second: float | None = None,
) -> Estimate:
    """Of a resolved spec on a dataset; exact where the series' `lengths` in steps are given.

    `windows_per_second` is what training has been measured at on the machine that will run it.
    """
    train, validation, test = _windows(spec, schema, lengths)
    train = Span(min(train.low, spec.max_train_windows), min(train.high, spec.max_train_windows))
    steps = Span(optimizer_steps(spec, train.low), optimizer_steps(spec, train.high))
    fewest, most = _categories(spec, schema)
    numeric = schema.numeric_columns()
    inputs = [Inputs.of(spec, numeric, counts) for counts in (fewest, most)]
    parameters = Span(*(network_parameters(spec, each) for each in inputs))
    rows = _rows(schema, lengths)
    memory = Span(*(training_memory_bytes(spec, each, rows=rows) for each in inputs))
    seconds = None
    if windows_per_second is not None:
        per_step = spec.effective_batch_size / windows_per_second
        seconds = Span(round(steps.low * per_step), round(steps.high * per_step))
    return Estimate(train, validation, test, steps, parameters, memory, seconds)


def outgrows_memory(rows: int, columns: int, available_bytes: int | None) -> bool:
    """Whether so many values, 4 bytes each, had better be mapped from files; False if nobody knows."""
    return available_bytes is not None and 4 * rows * columns > MAPPED_SHARE * available_bytes


def windows_of_series(spec: TrainingSpec, length: int) -> tuple[int, int, int]:
    """Training, validation and test windows in one series, cut as `trainer.split` cuts it."""
    validation = max(round(length * spec.validation_split), spec.horizon)
    test = max(round(length * spec.test_split), spec.horizon) if spec.test_split > 0 else 0
    spare = length - validation - test - spec.encoder_length - spec.horizon
    if spare < 0:
        return 0, 0, 0
    tails = validation - spec.horizon + 1, test - spec.horizon + 1 if test else 0
    return spare // spec.window_stride + 1, *tails


def optimizer_steps(spec: TrainingSpec, windows: int) -> int:
    """Of a whole run with so many training windows an epoch; 0 where there are none."""
    if windows == 0:
        return 0
    batch = min(spec.batch_size, windows)
    accumulate = min(spec.accumulate_grad_batches, math.ceil(windows / batch))
    fitting = spec.model_copy(update={"batch_size": batch, "accumulate_grad_batches": accumulate})
    return RunSize.of(fitting, windows).total_steps


def _windows(
    spec: TrainingSpec, schema: DatasetSchema, lengths: Sequence[int] | None
) -> tuple[Span, Span, Span]:
    if lengths is not None:
        totals = [
            sum(count * windows_of_series(spec, length)[part] for length, count in Counter(lengths).items())
            for part in range(3)
        ]
        return Span(totals[0], totals[0]), Span(totals[1], totals[1]), Span(totals[2], totals[2])
    train, validation, test = (_span_of_part(spec, schema, part) for part in range(3))
    return train, validation, test


def _span_of_part(spec: TrainingSpec, schema: DatasetSchema, part: int) -> Span:
    """From the shortest, the median and the longest series: one of each, the others in between."""
    known, count = schema.series_lengths, schema.series_count
    shortest, median, longest = known["min"], known["median"], known["max"]

    def bound(pick: Callable[[Iterable[int]], int], low: int, high: int) -> int:
        # Longer series may have a window less, since both tails are rounded: a few lengths are looked at.
        near = {low, high, *range(low, min(low + 12, high)), *range(max(high - 12, low), high)}
        return pick(windows_of_series(spec, length)[part] for length in near)

    upper_half, lower_half = (count + 1) // 2, count // 2
    return Span(
        lower_half * bound(min, shortest, longest) + upper_half * bound(min, median, longest),
        upper_half * bound(max, shortest, median) + lower_half * bound(max, shortest, longest),
    )


def _rows(schema: DatasetSchema, lengths: Sequence[int] | None) -> int:
    return sum(lengths) if lengths is not None else schema.series_count * schema.series_lengths["max"]


def _categories(spec: TrainingSpec, schema: DatasetSchema) -> tuple[list[int], list[int]]:
    """How many values each static category takes, at least and at most.

    The one group column names the series; of others the schema does not say. Series that are too short to
    train on are not counted, so that the least is 1 where there may be some.
    """
    shortest = windows_of_series(spec, schema.series_lengths["min"])[0]
    statics = spec.static_categoricals or []
    most = [schema.series_count] * len(statics)
    exact = [shortest > 0 and schema.group_columns == [name] for name in statics]
    return [count if sure else 1 for count, sure in zip(most, exact, strict=True)], most


def network_parameters(spec: TrainingSpec, inputs: Inputs) -> int:
    """Parameters of pytorch-forecasting's TFT with these inputs, as `trainer.stock` builds it."""
    hidden, continuous = spec.hidden_size, spec.hidden_continuous_size
    embeddings = [(count + 1, _embedding_size(count + 1, hidden)) for count in inputs.categories]
    reals = inputs.known + inputs.unknown
    head = hidden // spec.attention_head_size
    gate = 2 * hidden * (hidden + 1) + 2 * hidden
    return (
        sum(count * size for count, size in embeddings)
        + 2 * continuous * reals
        + _selection([size for _, size in embeddings], hidden, context=0)
        + len(embeddings) * 3 * hidden
        + _selection([continuous] * reals, hidden, context=hidden)
        + _selection([continuous] * inputs.known, hidden, context=hidden)
        + (reals + inputs.known) * _residual_network(continuous, min(continuous, hidden), hidden)
        + 4 * _residual_network(hidden, hidden, hidden)  # contexts
        + 2 * spec.lstm_layers * 8 * hidden * (hidden + 1)
        + _residual_network(hidden, hidden, hidden, context=hidden)  # enrichment
        + (1 + 2 * spec.attention_head_size) * head * (hidden + 1)
        + head * hidden
        + _residual_network(hidden, hidden, hidden)  # position-wise
        + 3 * gate  # after the LSTM, after attention, before the heads
        + inputs.targets * len(spec.quantiles) * (hidden + 1)
    )


def _embedding_size(count: int, hidden: int) -> int:
    """pytorch-forecasting's rule."""
    return min(round(1.6 * count**0.56), 100, hidden) if count > 2 else 1


def _selection(sizes: list[int], hidden: int, *, context: int) -> int:
    """The network that weighs the inputs; a single one needs none."""
    count = len(sizes)
    if count < 2:
        return 0
    return _residual_network(sum(sizes), min(hidden, count), count, context=context)


def _residual_network(size: int, hidden: int, output: int, *, context: int = 0) -> int:
    """A gated residual network; where sizes differ the skip path has a mask and a norm of its own."""
    skip = 0 if size == output else 3 * output
    layers = hidden * (size + 1) + hidden * context + hidden * (hidden + 1)
    return skip + layers + 2 * output * (hidden + 1) + 2 * output


def training_memory_bytes(spec: TrainingSpec, inputs: Inputs, *, rows: int) -> int:
    """Peak over what the imports take, on the CPU, within MEMORY_ERROR where that was measured: one device.

    Several share the windows of a batch; weights and data each of them holds for itself (decision 22).
    """
    steps = spec.encoder_length + spec.horizon
    variables = 2 * inputs.known + inputs.unknown  # those of the encoder and those of the decoder
    kept = FLOATS_PER_INPUT * variables * steps * spec.hidden_size
    scores = FLOATS_PER_SCORE * spec.attention_head_size * steps**2
    activations = 4 * spec.batch_size * (kept + scores)
    weights = 4 * COPIES_OF_WEIGHTS * network_parameters(spec, inputs)
    data = BYTES_PER_VALUE * rows * (inputs.known + inputs.unknown)
    return round(spec.devices * (FIXED_BYTES + weights + data) + activations)
