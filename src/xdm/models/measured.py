"""What each model has reached here: figures that were measured with this package, none from a paper.

Commands, seeds and intervals stand on the page that is named. Figures of different logs or protocols cannot be compared.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """One figure: ``value`` of ``metric`` on ``log``, told in full on the page ``page`` of the repository."""

    log: str
    metric: str
    value: float
    page: str = "experiments/RESULTS.md"

    def __str__(self) -> str:
        return f"{self.metric} {self.value:.4f} on {self.log}"


SIMULATED = "a simulated log, 30,000 users"
NEWS = "EB-NeRD demo, rolling"
VIDEOS = "KuaiRand-Pure"

MEASURED: dict[str, tuple[Measured, ...]] = {
    "sdm": (Measured(SIMULATED, "recall@50", 0.7442), Measured(NEWS, "hr@50", 0.3607), Measured(VIDEOS, "recall@50", 0.1922)),
    "xdm": (Measured(SIMULATED, "recall@50", 0.8540), Measured(NEWS, "hr@50", 0.3716), Measured(VIDEOS, "recall@50", 0.1944)),
    "sdm_actions": (Measured(NEWS, "hr@50", 0.3932), Measured(VIDEOS, "recall@50", 0.1912)),
}
