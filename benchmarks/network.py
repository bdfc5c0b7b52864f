"""The network's training step, stock against ours: side by side, in turns, in one process.

    python benchmarks/network.py [--rounds 5] [--batches 32 128] [--threads 1 2] [--profile]

The network alone: random windows that are there already, no loader, no Trainer. A step is forward pass,
quantile loss, backward pass, clipping and fused Adam. Each figure is the least of all rounds, of the
processor time where there is one thread (so that a busy machine does little harm), else of the clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from pytorch_forecasting import TemporalFusionTransformer
from pytorch_forecasting.metrics import MultiLoss, QuantileLoss
from torch import Tensor, nn

from trainer.flat_parameters import FlatParameters
from trainer.network import FastTransformer, TrainingStep, fits_step, in_step_order
from trainer.threads import let_threads_sleep

QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
ENCODER, HORIZON, SERVERS = 48, 12, 200
CALENDAR = ["hour_of_day_sin", "hour_of_day_cos", "day_of_week_sin", "day_of_week_cos", "relative_time_idx"]
TARGETS = ["m000", "m001"]
STEPS_A_ROUND = 5


class Stock(TemporalFusionTransformer):  # type: ignore[misc] # untyped library
    def transform_output(self, prediction: Any, target_scale: Any, loss: Any = None) -> Any:  # noqa: ARG002
        return prediction


class Fast(FastTransformer):
    full_windows = True

    def transform_output(self, prediction: Any, target_scale: Any, loss: Any = None) -> Any:  # noqa: ARG002
        return prediction


def arguments() -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "hidden_continuous_size": 16,
        "attention_head_size": 4,
        "dropout": 0.1,
        "output_size": [len(QUANTILES)] * len(TARGETS),
        "loss": MultiLoss([QuantileLoss(quantiles=list(QUANTILES)) for _ in TARGETS]),
        "max_encoder_length": ENCODER,
        "static_categoricals": ["c000"],
        "static_reals": [],
        "time_varying_categoricals_encoder": [],
        "time_varying_categoricals_decoder": [],
        "categorical_groups": {},
        "time_varying_reals_encoder": CALENDAR + TARGETS,
        "time_varying_reals_decoder": CALENDAR,
        "x_reals": CALENDAR + TARGETS,
        "x_categoricals": ["c000"],
        "embedding_sizes": {"c000": (SERVERS + 1, 30)},
        "embedding_paddings": [],
        "logging_metrics": nn.ModuleList([]),
        "mask_bias": -3e4,
    }


def random_batch(size: int) -> tuple[dict[str, Any], Tensor]:
    steps = ENCODER + HORIZON
    cont = torch.randn(size, steps, len(CALENDAR) + len(TARGETS))
    cat = torch.randint(SERVERS + 1, (size, 1, 1)).expand(-1, steps, -1)
    x = {
        "encoder_cont": cont[:, :ENCODER],
        "decoder_cont": cont[:, ENCODER:],
        "encoder_cat": cat[:, :ENCODER],
        "decoder_cat": cat[:, ENCODER:],
        "encoder_lengths": torch.full((size,), ENCODER),
        "decoder_lengths": torch.full((size,), HORIZON),
        "target_scale": None,
    }
    return x, torch.randn(size, HORIZON, len(TARGETS))


class Contestant:
    """A network, its optimizer, and the best times so far."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.train()
        self.optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        self.levels = torch.tensor(QUANTILES)
        self.best: dict[str, float] = {}

    def run(self, batch: tuple[dict[str, Any], Tensor], clock: Callable[[], float]) -> None:
        """A round of steps, the least time of each part kept, in milliseconds."""
        for _ in range(STEPS_A_ROUND):
            start = clock()
            loss = self._loss(*batch)
            forward = clock()
            loss.backward()  # type: ignore[no-untyped-call]
            backward = clock()
            self._update()
            end = clock()
            self._keep("forward", forward - start)
            self._keep("backward", backward - forward)
            self._keep("update", end - backward)
            self._keep("step", end - start)

    def _loss(self, x: dict[str, Any], actual: Tensor) -> Tensor:
        forecast = torch.stack(self.network(x)["prediction"], dim=2)
        error = actual.unsqueeze(-1) - forecast
        return 2.0 * torch.maximum(self.levels * error, (self.levels - 1.0) * error).mean()

    def _update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 0.1)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _keep(self, part: str, seconds: float) -> None:
        self.best[part] = min(self.best.get(part, float("inf")), 1e3 * seconds)


class WholeStep(Contestant):
    """Our network by `TrainingStep`, as the trainer takes it: `forward` has most of the way back too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.flat = FlatParameters(in_step_order(network))
        self.optimizer = torch.optim.Adam([self.flat.whole], lr=1e-3, fused=True)
        self.step = TrainingStep(network, self.flat, self.levels)

    def _loss(self, x: dict[str, Any], actual: Tensor) -> Tensor:
        unscaled = torch.tensor([0.0, 1.0]).expand(len(actual), 2)
        whole: Any = {**x, "target_scale": [unscaled] * len(TARGETS)}
        static = self.network._static_embedding(x)[0]  # type: ignore[operator] # noqa: SLF001 - as the model does
        return self.step.losses((whole, (list(actual.unbind(2)), None)), static)[0]

    def _update(self) -> None:
        self.flat.gather_gradients()
        torch.nn.utils.clip_grad_norm_([self.flat.whole], 0.1)
        self.optimizer.step()
        self.flat.drop_gradients()


def compare(threads: int, size: int, rounds: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    clock = time.process_time if threads == 1 else time.perf_counter
    contestants = [kind(network) for kind, network in _kinds()]
    batch = random_batch(size)
    for _ in range(rounds):
        for contestant in contestants:
            contestant.run(batch, clock)
    for part in ("forward", "backward", "update", "step"):
        times = [contestant.best[part] for contestant in contestants]
        columns = "".join(f"{own:9.1f}" for own in times) + f"{times[0] / times[-1]:8.2f}"
        print(f"{threads:>7} {size:>6} {part:>9}{columns}", flush=True)


def _kinds() -> list[tuple[type[Contestant], nn.Module]]:
    """Stock, ours block by block under autograd, ours as one call, where the kernels take it."""
    fast = Fast(**arguments())
    kinds: list[tuple[type[Contestant], nn.Module]] = [(Contestant, Stock(**arguments())), (Contestant, fast)]
    if fits_step(fast, random_batch(1)[0]):
        kinds.append((WholeStep, Fast(**arguments())))
    return kinds


def profile(threads: int, size: int) -> None:
    """Where our step's time goes, by operation."""
    torch.set_num_threads(threads)
    fast, batch = Contestant(Fast(**arguments())), random_batch(size)
    fast.run(batch, time.perf_counter)
    with torch.profiler.profile() as recorded:
        fast.run(batch, time.perf_counter)
    print(
        recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=30, max_name_column_width=40)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--profile", action="store_true", help="also print our step's operations")
    options = parser.parse_args()
    print(f"{'threads':>7} {'batch':>6} {'part':>9} {'stock ms':>8} {'blocks':>8} {'whole':>8} {'ratio':>7}")
    for threads in options.threads:
        for size in options.batches:
            compare(threads, size, options.rounds)
            if options.profile:
                profile(threads, size)


if __name__ == "__main__":
    let_threads_sleep()
    main()
