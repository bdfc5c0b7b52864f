"""pytorch-forecasting's Temporal Fusion Transformer, computed faster: same parameters, same outputs."""

from trainer.network.resampling import interpolate_by_matrix
from trainer.network.step import TrainingStep, fits_step
from trainer.network.step_parameters import in_step_order
from trainer.network.transformer import FastTransformer

__all__ = ["FastTransformer", "TrainingStep", "fits_step", "in_step_order", "interpolate_by_matrix"]
