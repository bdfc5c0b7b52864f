"""`python -m tests.chaos.proof`: takes the token check out of a copy of the source; the suite must notice.

Exit code 0: the same faults leave the source as it is unharmed (run `python -m tests.chaos` for that), and
harm the copy, in the way that the check is there to prevent.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.chaos.later_release import copy_source

CHECKED = Path("core/jobs/repository.py")
WITH_CHECK = "return (Job.token == token, Job.status == JobStatus.RUNNING)"
WITHOUT_CHECK = "return (Job.status == JobStatus.RUNNING,)"
# A worker that writes when its job is another's; the rest of the storm would only take longer.
FAULTS = ("database line held", "worker and trainer frozen")
TIMES = 6
CHARGE = re.compile(r"^writes of a run that had lost its job: ([0-9]+)$", re.MULTILINE)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="ft-proof-") as folder:
        copy = Path(folder)
        copy_source(copy)
        take_check_out(copy / CHECKED)
        code, output = run_suite(copy)
    sys.stdout.write(output)
    charge = CHARGE.search(output)
    if code != 1 or charge is None or charge[1] == "0":
        sys.stdout.write("\nWithout the token check the suite found nothing: it proves nothing.\n")
        return 1
    sys.stdout.write(
        f"\nWithout the token check the suite fails, as it must: {charge[1]} stale writes were let through.\n"
    )
    return 0


def take_check_out(file: Path) -> None:
    """Raises ValueError where the source reads otherwise by now."""
    source = file.read_text()
    if source.count(WITH_CHECK) != 1:
        raise ValueError(f"{file} does not hold the token check as it is known here")
    file.write_text(source.replace(WITH_CHECK, WITHOUT_CHECK))


def run_suite(copy: Path) -> tuple[int, str]:
    """Exit code and output."""
    kinds = [word for kind in FAULTS for word in ("--only", kind)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--part", "storm", "--times", str(TIMES), *kinds],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


if __name__ == "__main__":
    sys.exit(main())
