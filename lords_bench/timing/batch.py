"""How many launches a sample needs, and what a pair of clock stamps says."""

import numpy as np
import numpy.typing as npt

# A sample lasts this many steps of the timer, so that rounding to a step is 0.2 % of it, less than half of what a full
# policy resolves.
STEPS_PER_SAMPLE = 500
# A clock from a shorter span than this many steps of the nanosecond timer is off by more than 2 %.
STEPS_PER_CLOCK = 50


def batch_launches(launch_ns: float, step_ns: float, *, limit: int) -> int:
    """Launches to time together so that a sample is long against a step of the timer; 1 … `limit`."""
    return max(1, min(limit, int(np.ceil(STEPS_PER_SAMPLE * step_ns / max(launch_ns, 1.0)))))


def clock_between(first_PC: npt.NDArray[np.int64], second_PC: npt.NDArray[np.int64], step_ns: float) -> float | None:
    """Clock in MHz between two stamps: the median over the multiprocessors that both stamps reached.

    Args:
        first_PC: (multiprocessors, 2) nanoseconds and cycles, 0 where the stamp did not come.
        second_PC: the later stamp.
        step_ns: by which the nanosecond timer advances.

    Returns:
        None where no multiprocessor has both, a counter ran backwards, or the span is too short to be told.
    """
    both = (first_PC[:, 0] > 0) & (second_PC[:, 0] > 0)
    spans = (second_PC - first_PC)[both]
    spans = spans[(spans[:, 0] >= STEPS_PER_CLOCK * step_ns) & (spans[:, 1] > 0)]
    if not len(spans):
        return None
    return float(np.median(spans[:, 1] / spans[:, 0]) * 1e3)


def timer_step_ns(readings: npt.NDArray[np.int64]) -> float | None:
    """Least step between successive readings that differ; None where none do."""
    steps = np.diff(readings)
    steps = steps[steps > 0]
    return float(steps.min()) if len(steps) else None
