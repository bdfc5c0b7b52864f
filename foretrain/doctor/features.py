"""The rows of the feature matrix."""

from __future__ import annotations

from foretrain.doctor.feature import Feature
from foretrain.doctor.healing import prove_divergence_is_healed, prove_memory_is_healed
from foretrain.doctor.options import (
    preset_proof,
    prove_calibration,
    prove_clipping,
    prove_early_stopping,
    prove_gaps,
    prove_logging,
    prove_normalizers,
)
from foretrain.doctor.phase_one import (
    prove_checkpoints,
    prove_resume,
    prove_seed,
    prove_tensorboard,
    prove_threads,
    prove_training,
)
from foretrain.doctor.phase_three import precision_proof, prove_accumulation, prove_multi_target
from foretrain.doctor.phase_two import (
    prove_progress,
    prove_rate_finder,
    prove_rate_monitor,
    prove_validation_split,
)
from foretrain.doctor.whole import prove_all_together, prove_forecasts

ONE, TWO, THREE = "phase 1", "phase 2", "phase 3"
STEERING, SELF_HELP, WHOLE = "steering", "self-help", "the whole"

FEATURES: tuple[Feature, ...] = (
    Feature("training", ONE, "the plain run, 2 epochs", prove_training),
    Feature("multi-threading", ONE, "threads = cores, hidden_size 64, batch_size 256", prove_threads),
    Feature("checkpoints", ONE, "model.ckpt and last.ckpt", prove_checkpoints),
    Feature("resume", ONE, "stop in mid-epoch, go on", prove_resume),
    Feature("tensorboard", ONE, "tensorboard.zip, two targets", prove_tensorboard),
    Feature("random-seed", ONE, "random_seed 42, 42, 43", prove_seed),
    Feature("lr-finder", TWO, "auto_lr_find", prove_rate_finder),
    Feature("lr-monitor", TWO, "lr_monitor_interval step, epoch, none", prove_rate_monitor),
    Feature("validation-split", TWO, "validation_split 0.2, 0.4", prove_validation_split),
    Feature("progress", TWO, "4 epochs, watched", prove_progress),
    Feature("32-true", THREE, "precision 32-true", precision_proof("32-true")),
    Feature("16-mixed", THREE, "precision 16-mixed", precision_proof("16-mixed")),
    Feature("bf16-mixed", THREE, "precision bf16-mixed", precision_proof("bf16-mixed")),
    Feature("accumulation", THREE, "batch_size 16, accumulate_grad_batches 4", prove_accumulation),
    Feature("multi-target", THREE, "cpu_percent and memory_percent", prove_multi_target),
    Feature("gradient-clip", STEERING, "gradient_clip_val 0.05, 0", prove_clipping),
    Feature("early-stopping", STEERING, "early_stopping_patience 1, 30 epochs", prove_early_stopping),
    Feature("logging", STEERING, "log_every_n_steps 4", prove_logging),
    Feature("gaps", STEERING, "missing_policy interpolate, mask, error", prove_gaps),
    Feature("normalizers", STEERING, "all five", prove_normalizers),
    Feature("calibration", STEERING, "calibration conformal, none", prove_calibration),
    Feature("development", STEERING, "preset development, shrunk", preset_proof("development")),
    Feature("production", STEERING, "preset production, shrunk", preset_proof("production")),
    Feature("divergence", SELF_HELP, "learning_rate 1000", prove_divergence_is_healed),
    Feature("out-of-memory", SELF_HELP, "batch_size 256 under a memory limit", prove_memory_is_healed),
    Feature("forecasts", WHOLE, "predict known and new servers", prove_forecasts),
    Feature("all-together", WHOLE, "all of it in one run, stopped and resumed", prove_all_together),
)
