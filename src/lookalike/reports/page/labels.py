"""Short names of settings: what tells them apart, with the loss always whole."""

from collections.abc import Mapping, Sequence

from lookalike.reports.cells import Setting, shown

LABEL = 32  # characters beside a row of a chart
LEAST = 5  # characters of a shortened value
LOSS = "loss"
ELLIPSIS = "…"


def short_labels(settings: Sequence[Setting]) -> list[str]:
    """The values of the keys that tell settings apart, in few characters."""
    keys = telling_keys(settings)
    return [setting.name or _values(setting, keys) for setting in settings]


def telling_keys(settings: Sequence[Setting]) -> list[str]:
    """The loss, if it varies, and each key that divides settings further than those before it.

    What all have in common, and what follows from other keys, is left out.
    """
    keys = sorted(settings[0].values, key=lambda key: key != LOSS)
    told: list[str] = []
    for key in keys:
        if _distinct(settings, [*told, key]) > _distinct(settings, told):
            told.append(key)
    return told


def short_label(values: Mapping[str, str], most: int = LABEL) -> str:
    """Values joined; of too many or too long ones the middle is left out, never of the loss.

    >>> short_label({"loss": "multi_similarity", "miner": "pair_margin_miner", "size": "512"})
    'multi_similarity, pair…iner, 512'
    """
    most = max(most, len(values.get(LOSS, "")) + 2 * LEAST)
    for room in range(most, LEAST - 1, -1):
        if len(joined := ", ".join(_cut(values, room))) <= most:
            return joined
    first, *others = _cut(values, LEAST)
    while others and len(", ".join([first, ELLIPSIS, *others])) > most:
        others.pop(0)
    return ", ".join([first, ELLIPSIS, *others] if len(values) > 1 else [first])


def shortened(text: str, most: int = LABEL) -> str:
    """A text without its middle if it has more characters than allowed (at least 3)."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}{ELLIPSIS}{text[most // 2 + 1 - most :]}"


def shown_of(key: str, value: str) -> str:
    """A hyper-parameter's value where there is little room."""
    return value if key == LOSS else shortened(value)


def _cut(values: Mapping[str, str], room: int) -> list[str]:
    """Each value in so many characters, but the loss whole."""
    return [value if key == LOSS else shortened(value, room) for key, value in values.items()]


def _values(setting: Setting, keys: Sequence[str]) -> str:
    values = {key: shown(setting.values[key]) for key in keys}
    if not setting.trained:  # all values of training are the same words
        values = {value: value for value in values.values()}
    return short_label(values) if values else ""


def _distinct(settings: Sequence[Setting], keys: Sequence[str]) -> int:
    return len({tuple(setting.values[key] for key in keys) for setting in settings})
