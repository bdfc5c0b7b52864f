"""Units of server metrics, and the numbers between them. Plain Python: the mapping's schema needs it."""

from __future__ import annotations

from dataclasses import dataclass

_PREFIXES = {
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
    "Pi": 2.0**50,
}
# Name -> kind, size in the kind's basic unit, and the basic unit's value at the name's zero.
_UNITS: dict[str, tuple[str, float, float]] = {
    **dict.fromkeys(("fraction", "ratio", "1"), ("share", 1.0, 0.0)),
    **dict.fromkeys(("percent", "%"), ("share", 0.01, 0.0)),
    **dict.fromkeys(("bytes", "byte", "B"), ("data", 8.0, 0.0)),
    **{f"{prefix}B": ("data", 8.0 * size, 0.0) for prefix, size in _PREFIXES.items()},
    **dict.fromkeys(("bits", "bit"), ("data", 1.0, 0.0)),
    **{f"{prefix}bit": ("data", size, 0.0) for prefix, size in _PREFIXES.items()},
    **dict.fromkeys(("seconds", "s"), ("time", 1.0, 0.0)),
    "ms": ("time", 1e-3, 0.0),
    "us": ("time", 1e-6, 0.0),
    "ns": ("time", 1e-9, 0.0),
    "min": ("time", 60.0, 0.0),
    "h": ("time", 3600.0, 0.0),
    "d": ("time", 86400.0, 0.0),
    "hertz": ("frequency", 1.0, 0.0),
    "Hz": ("frequency", 1.0, 0.0),
    **{f"{prefix}Hz": ("frequency", size, 0.0) for prefix, size in _PREFIXES.items() if len(prefix) == 1},
    **dict.fromkeys(("celsius", "°C"), ("temperature", 1.0, 273.15)),
    **dict.fromkeys(("fahrenheit", "°F"), ("temperature", 5 / 9, 459.67 * 5 / 9)),
    **dict.fromkeys(("kelvin", "K"), ("temperature", 1.0, 0.0)),
}
_PER_SECOND = "/s"
_SHOWN = "%, fraction, bytes, kB … PB, KiB … PiB, bits, kbit … Pbit, s, ms, us, ns, min, h, d, Hz, °C, °F, K"


@dataclass(frozen=True)
class Conversion:
    """A number in one unit is `number * factor + offset` in another."""

    factor: float
    offset: float


def conversion_between(source: str | None, target: str) -> Conversion:
    """Raises ValueError, with a sentence for the user, where there is none."""
    if source is None:
        raise ValueError("convert_to needs unit, the unit of the numbers in the file")
    from_kind, from_size, from_zero = _known(source)
    to_kind, to_size, to_zero = _known(target)
    if from_kind != to_kind:
        raise ValueError(f"{source} is a unit of {from_kind}, {target} one of {to_kind}")
    return Conversion(from_size / to_size, (from_zero - to_zero) / to_size)


def rate_unit(unit: str) -> str:
    """The unit of a counter's growth per second: seconds a second are a fraction."""
    return "fraction" if unit in ("s", "seconds") else unit + _PER_SECOND


def _known(unit: str) -> tuple[str, float, float]:
    name = unit.strip()
    rated = name.endswith(_PER_SECOND)
    found = _UNITS.get(name.removesuffix(_PER_SECOND))
    if found is None or (rated and found[2]):
        raise ValueError(f"{unit!r} cannot be converted; the units known are {_SHOWN}, each also with /s")
    kind, size, zero = found
    if rated and kind == "time":
        return "share", size, 0.0
    return (f"{kind} a second" if rated else kind), size, zero
