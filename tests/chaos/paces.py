"""How quickly the service under test notices things."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """How quickly the service notices things, in seconds."""

    heartbeat: float
    lease: float
    sweep: float
    grace: float
    silence: float

    def settings(self) -> dict[str, str]:
        return {
            "FORETRAIN_HEARTBEAT_SECONDS": str(self.heartbeat),
            "FORETRAIN_LEASE_SECONDS": str(self.lease),
            "FORETRAIN_SWEEP_SECONDS": str(self.sweep),
            "FORETRAIN_STOP_GRACE_SECONDS": str(self.grace),
            "FORETRAIN_PROGRESS_TIMEOUT_SECONDS": str(self.silence),
        }


SHIPPED = Pace(heartbeat=5.0, lease=30.0, sweep=4.0, grace=30.0, silence=1800.0)
# A trainer may be silent for longer than a tenth of a tenth: a busy machine is no hanging trainer.
TENFOLD = Pace(heartbeat=0.5, lease=3.0, sweep=0.4, grace=3.0, silence=10.0)
