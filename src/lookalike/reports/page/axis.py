"""An axis of a chart: its limits, where a value lies, and the marks along it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10


@dataclass(frozen=True)
class Axis:
    """A direction of a chart.

    Args:
        label: what is drawn, with its unit.
        low: where it begins.
        high: where it ends, above `low`.
        log: whether equal steps are equal factors.
        ticks: (value, text) of the marks; nothing takes round numbers.
    """

    label: str
    low: float
    high: float
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    @classmethod
    def around(cls, label: str, values: Sequence[float], log: bool = False) -> "Axis":
        """Limits with some room around values; what is not finite doesn't count."""
        finite = [value for value in values if isfinite(value) and (value > 0 or not log)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        if log and finite:
            return cls(label, low / 1.25, high * 1.25, True)
        room = 0.07 * (high - low) or 0.1 * abs(high) or 0.5
        return cls(label, low - room, high + room)

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        if self.log:
            return log10(value / self.low) / log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def marks(self) -> tuple[tuple[float, str], ...]:
        """(value, text), all between the ends if they were not given."""
        if self.ticks:
            return self.ticks
        values = _log_ticks(self.low, self.high) if self.log else _ticks(self.low, self.high)
        return tuple((value, _number(value)) for value in values)


def _number(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if abs(value) >= 1e4 else f"{value:.6g}"


def _ticks(low: float, high: float, about: int = 7) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / about
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(n * step, 12) for n in range(ceil(low / step), floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 times them where there are few; on a short axis plain ticks."""
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = [10.0**p * f for p in powers for f in factors if low <= 10.0**p * f <= high]
        if len(ticks) >= 3:
            return ticks
    return _ticks(low, high, 4)
