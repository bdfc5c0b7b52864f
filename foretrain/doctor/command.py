"""`foretrain doctor`: what this machine has, and with --train whether every feature does what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from foretrain.doctor.environment import CURE_PACKAGES, Check, check_environment
from foretrain.doctor.screen import MatrixScreen, environment_table, feature_table, notes
from foretrain.refusals import Refusal
from trainer.threads import let_threads_sleep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretrain.doctor.matrix import Matrix

FAULT_EXIT = 1
_WIDTH_OF_A_FILE = 120


def run_doctor(*, train: bool, only: Sequence[str], keep: Path | None, json_file: Path | None) -> int:
    """0 if all is well, 1 if there is a problem or a feature failed. Raises Refusal."""
    if (only or keep is not None) and not train:
        raise Refusal("--only and --keep belong to --train")
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise Refusal(f"--json {json_file} cannot be written: there is no folder {json_file.parent}")
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH_OF_A_FILE)
    let_threads_sleep()
    if train:
        from foretrain.doctor.matrix import chosen_features  # loads numpy and more

        chosen_features(only)
    with console.status("Looking at this machine"):
        checks = _look_around()
    console.print(environment_table(checks))
    problems = [check.name for check in checks if check.status == "problem"]
    matrix = _prove(console, only, keep) if train else None
    if json_file is not None:
        content: dict[str, Any] = {"environment": [check.to_json() for check in checks]}
        content["features"] = None if matrix is None else matrix.to_json()
        json_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    failed = [] if matrix is None else matrix.failed
    for what, names in (("Problems", problems), ("Failed", failed)):
        if names:
            console.print(f"{what}: {', '.join(names)}", style="bold red")
    return FAULT_EXIT if problems or failed else 0


def _look_around() -> list[Check]:
    try:
        from foretrain.setup import set_up
    except ModuleNotFoundError as error:  # the trainer alone: there are no settings to look at
        without = Check("service", "warning", f"{error.name} is not installed", CURE_PACKAGES)
        return [*check_environment(Path.home()), without]
    from foretrain.doctor.services import check_services

    settings = set_up()
    return [*check_environment(settings.data_dir), *check_services(settings)]


def _prove(console: Console, only: Sequence[str], keep: Path | None) -> Matrix:
    from foretrain.doctor.matrix import chosen_features, folder_for_runs, prove

    features = chosen_features(only)
    screen = MatrixScreen(console, len(features))
    with folder_for_runs(keep) as folder, screen.progress:
        matrix = prove(features, folder, screen.started, screen.done)
    console.print(feature_table(matrix))
    for note in notes(matrix):
        console.print(note, style="dim")
    if keep is not None:
        console.print(f"The runs are in {keep}.", soft_wrap=True)
    return matrix
