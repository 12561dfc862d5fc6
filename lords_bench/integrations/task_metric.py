"""`TaskMetric`: one number that lm-eval gives."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskMetric:
    """One number that lm-eval gives: `metric` of `task`, with its standard error where it states one."""

    task: str
    metric: str
    value: float
    standard_error: float | None
