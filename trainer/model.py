"""pytorch-forecasting's Temporal Fusion Transformer: its network and `state_dict`, our training step.

What differs from its own step: the loss is taken in scaled space; heads, rescaling and loss stay in float32
under mixed precision; nothing is read back to the host in a step; a step whose gradient is not finite is left
out on the device; the last, partial group of accumulated batches counts by its own size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - what everybody calls it
from torch import Tensor, nn

from trainer.batches import SHARE
from trainer.flat_parameters import FlatParameters
from trainer.loss import ValidationLoss, observed_mean, quantile_loss, stacked
from trainer.network import FastTransformer, TrainingStep, fits_step, in_step_order, interpolate_by_matrix
from trainer.parallel.ranks import ALONE
from trainer.state import own_copy
from trainer.tally import Tally

if TYPE_CHECKING:
    from trainer.parallel.ranks import Ranks
    from trainer.schedule import LearningRate
    from trainer.windows import Batch


# Added to the norm when clipping, as torch.nn.utils.clip_grad_norm_ does.
_NORM_FLOOR = 1e-6


@dataclass(frozen=True)
class StepPlan:
    """What a training step has to know beside the network."""

    quantiles: tuple[float, ...]
    targets: int
    batch_size: int
    accumulate: int
    windows_per_epoch: int
    learning_rate: LearningRate
    optimizer: str
    weight_decay: float
    fused: bool

    def windows_of_batch(self, batch_index: int, first_window: int = 0) -> int:
        """Of all ranks together."""
        return min(self.batch_size, self.windows_per_epoch - first_window - batch_index * self.batch_size)

    def ends_group(self, batch_index: int, first_window: int = 0) -> bool:
        """Whether an optimizer step follows."""
        done = first_window + (batch_index + 1) * self.batch_size
        return (batch_index + 1) % self.accumulate == 0 or done >= self.windows_per_epoch

    def share_of_group(self, batch_index: int, windows: int, first_window: int = 0) -> float:
        """What a batch's mean loss is multiplied with, so that each window of its group counts alike.

        Lightning divides by `accumulate` whether or not the group is full. `first_window` is where the epoch
        began, in a run that goes on in the middle of one.
        """
        group_size = self.batch_size * self.accumulate
        group_start = first_window + batch_index // self.accumulate * group_size
        windows_in_group = min(group_size, self.windows_per_epoch - group_start)
        return self.accumulate * windows / windows_in_group


class Float32Head(nn.Linear):
    """A linear layer that steps out of autocast."""

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(hidden.float(), self.weight, self.bias)


class ForecastModel(FastTransformer):
    """The network and how it is trained. Made by `build_model`: its constructor is the stock one, so that the
    arguments in a checkpoint are the stock ones too.
    """

    plan: StepPlan
    levels: Tensor  # the quantiles, on the device
    tally: Tally
    validation: ValidationLoss
    first_window: int = 0  # of the epoch, in a run that goes on in the middle of one
    ranks: Ranks = ALONE  # those that train it together
    flat: FlatParameters  # from configure_optimizers on
    _step: TrainingStep | None = None  # over them, from the first batch on that it fits
    _ends_group: bool = True  # the batch that was trained on last
    _start: dict[int, dict[str, Tensor]] | None = None  # the optimizer's state of a run that goes on

    def __setattr__(self, name: str, value: Any) -> None:
        """Lightning notes here which hook it is in, before and after each: past the search for modules."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def prepare(self, plan: StepPlan) -> None:
        """Make ready to be trained on the device the weights are on."""
        self.plan = plan
        self.levels = torch.tensor(plan.quantiles, device=self.device)
        self.tally = Tally(self.device)

    def go_on_from(self, counters: dict[str, float], optimizer: dict[int, dict[str, Tensor]]) -> None:
        """Take over what an earlier run counted now, and its optimizer state once training starts."""
        self.prepare(self.plan)
        self.tally = Tally(self.device, counters)
        self._start = optimizer

    def on_train_start(self) -> None:
        if self._start is None:
            self.prepare(self.plan)  # the device is known only now

    def scaled_quantiles(self, x: dict[str, Any]) -> Tensor:
        """Forecasts in scaled space, (B, H, K, Q), float32."""
        return stacked(self({**x, "target_scale": None})["prediction"])

    def quantiles(self, x: dict[str, Any]) -> Tensor:
        """Forecasts in the targets' units, (B, H, K, Q), float32, not sorted."""
        return stacked(self(x)["prediction"])

    def transform_output(self, prediction: Any, target_scale: Any, loss: Any = None) -> Any:  # noqa: ARG002
        """Rescale as pytorch-forecasting does, but always in float32; no scale means stay in scaled space."""
        if target_scale is None:
            return prediction
        if isinstance(prediction, list):
            return [_rescaled(*pair) for pair in zip(prediction, target_scale, strict=True)]
        return _rescaled(prediction, target_scale)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss, idle = self._losses(batch)
        if SHARE in batch[0]:
            loss, idle = loss * batch[0][SHARE], idle * batch[0][SHARE]
        self.tally.add_batch(loss.detach(), idle)
        self._ends_group = self.plan.ends_group(batch_idx, self.first_window)
        windows = self.plan.windows_of_batch(batch_idx, self.first_window)
        return loss * self.plan.share_of_group(batch_idx, windows, self.first_window)

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of a batch in scaled space, and that of a forecast of zero."""
        x, (actual, weights) = batch
        step = self._compiled_step(x)
        if step is not None:
            return step.losses(batch, self._static_embedding(x)[0])
        forecast = self.scaled_quantiles(x)
        with torch.autocast(self.device.type, enabled=False):
            scaled = _in_scaled_space(actual, x["target_scale"])
            observed = None if weights is None else stacked(weights)
            loss = observed_mean(quantile_loss(forecast, scaled, self.levels), observed)
            return loss, observed_mean(scaled.abs(), observed)

    def _compiled_step(self, x: dict[str, Any]) -> TrainingStep | None:
        """What trains on batches like `x` in one piece, where there are kernels for it."""
        flat = vars(self).get("flat")  # not there where nothing is trained
        if flat is None or not (self.training and torch.is_grad_enabled() and fits_step(self, x)):
            return None
        if self._step is None:
            self._step = TrainingStep(self, flat, self.levels)
        return self._step

    def on_validation_epoch_start(self) -> None:
        self.validation = ValidationLoss(self.plan.targets, self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """In float32 whatever the precision of training, as every evaluation."""
        x, (actual, weights) = batch
        with torch.autocast(self.device.type, enabled=False):
            losses = quantile_loss(self.quantiles(x), stacked(actual), self.levels)
        self.validation.add(losses, None if weights is None else stacked(weights))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        kind = torch.optim.AdamW if self.plan.optimizer == "adamw" else torch.optim.Adam
        self.lay_flat()
        optimizer = kind(
            [self.flat.whole],
            lr=self.plan.learning_rate.at(0),
            weight_decay=self.plan.weight_decay,
            fused=self.plan.fused,
        )
        if self._start is not None:
            # Copies: the optimizer would go on in the very tensors that a later rollback needs.
            own = {index: own_copy(values) for index, values in self._start.items()}
            optimizer.load_state_dict(optimizer.state_dict() | {"state": own})
        return optimizer

    def lay_flat(self) -> None:
        """Put all weights into one tensor. Products depend on where they lie, in the last bit."""
        self.flat = FlatParameters(in_step_order(self), notes=2)
        self._step = None

    def optimizer_zero_grad(self, *_: Any) -> None:
        self.flat.drop_gradients()

    def on_after_backward(self) -> None:
        # Here and not at the step: a gradient scaler asks for the optimizer's gradient before that.
        self.flat.gather_gradients()
        if self._ends_group and self.ranks.count > 1:
            tally = self.tally
            torch.stack((tally.group_loss, tally.group_idle), out=self.flat.notes)
            self.ranks.add_up(self.flat.shared)
            tally.group_loss, tally.group_idle = self.flat.notes.clone()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            group["lr"] = self.plan.learning_rate.at(self.trainer.global_step)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002 - the norm, always
    ) -> None:
        gradient = self.flat.gradient
        norm = torch.linalg.vector_norm(gradient)
        if gradient_clip_val:
            gradient.mul_((gradient_clip_val / (norm + _NORM_FLOOR)).clamp(max=1.0))
        bad = self.tally.end_group(norm)
        if self.plan.fused:  # otherwise the gradient scaler of 16-mixed does the same
            optimizer.found_inf = bad  # type: ignore[attr-defined] # the fused optimizers' own switch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ARG002
        """Batches are made where they are used."""
        return batch

    def on_validation_epoch_end(self) -> None:
        self.validation.add_up(self.ranks)

    # pytorch-forecasting's own hooks keep a list entry per step and draw figures; none of that here.
    def on_train_epoch_end(self) -> None: ...

    def on_fit_end(self) -> None: ...


def build_model(arguments: dict[str, Any]) -> ForecastModel:
    """The network from `stock.network_arguments`, its heads in float32."""
    model = ForecastModel(**arguments)
    model.full_windows = True
    interpolate_by_matrix(model)
    if isinstance(model.output_layer, nn.ModuleList):
        model.output_layer = nn.ModuleList(_float32_head(head) for head in model.output_layer)
    else:
        model.output_layer = _float32_head(model.output_layer)
    return model


def _float32_head(head: Any) -> Float32Head:
    replacement = Float32Head(head.in_features, head.out_features)
    replacement.load_state_dict(head.state_dict())
    return replacement


def _rescaled(prediction: Tensor, scale: Tensor) -> Tensor:
    """(B, H, Q) times the scale plus the centre of each window, (B, 2)."""
    return prediction.float() * scale[:, 1, None, None] + scale[:, 0, None, None]


def _in_scaled_space(actual: Any, scale: Any) -> Tensor:
    """The targets (B, H, K) less their centre, over their scale."""
    values, scales = stacked(actual), stacked(scale)
    return (values - scales[:, None, 0]) / scales[:, None, 1]
