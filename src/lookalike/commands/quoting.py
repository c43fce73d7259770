"""Names and paths on a command line: text, whatever Hydra's grammar would make of them.

To Hydra, class=7 is a number, 2024_01 is the number 202401, and photos (1) calls a function.
"""

import re
import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

TEXTS = {
    "checkpoint", "class", "data.classes", "data.exclude", "data.root", "data.source.file",
    "gallery", "images", "index", "name", "negatives", "out", "resume", "root",
}  # fmt: skip  # keys whose values are names or paths
WHOLE = ("where",)  # keys whose value is one text with quotes, commas and parentheses of its own
_PARTS = re.compile(r"'[^']*'|\"[^\"]*\"|[^,\[\]]+")  # quoted, or between commas and brackets
_NO_TEXT = re.compile(r"[+-]?[\d_.]+(e[+-]?\d+)?|[+-]?inf|nan|true|false", re.IGNORECASE)


def with_texts(argument: str) -> str:
    """The same, but for a number that stands where a name or a path is meant: it gets quotes.

    >>> with_texts("data.classes=[7,bed]"), with_texts("seed=7")
    ('data.classes=["7",bed]', 'seed=7')
    >>> print(with_texts("where=class in ('bed', 'sofa') and price < 200"))
    where="class in ('bed', 'sofa') and price < 200"
    """
    key, equals, value = argument.partition("=")
    if key in WHOLE and value not in ("", "null") and not _is_quoted(value):
        return f"{key}={_quoted(value)}"
    if not equals or key.lstrip("+") not in TEXTS:
        return argument
    return f"{key}={_PARTS.sub(lambda part: _quoted_number(part[0]), value)}"


def remedy(override: str) -> str:
    """How to write an override that Hydra can't parse, to be copied; "" if quotes don't help.

    >>> remedy("data.root=photos (1)")
    '\\'data.root="photos (1)"\\''
    """
    key, equals, value = override.partition("=")
    several = re.fullmatch(r"\[(.*)\]", value)
    text = f"[{','.join(map(_readable, several[1].split(',')))}]" if several else _quoted(value)
    return shlex.quote(f"{key}={text}") if equals and _parses(f"{key}={text}") else ""


def _is_quoted(value: str) -> bool:
    """Whether a value is one text in quotes already."""
    return value[:1] in ("'", '"') and value[-1] == value[0] and value[0] not in value[1:-1]


def _quoted_number(part: str) -> str:
    return f'"{part.strip()}"' if _NO_TEXT.fullmatch(part.strip()) else part


def _readable(value: str) -> str:
    return value if _parses(f"key={value}") else _quoted(value)


def _quoted(value: str) -> str:
    """In Hydra's quotes; it takes a backslash before a quote, and at the end, as an escape."""
    mark = "'" if '"' in value and "'" not in value else '"'
    ended = re.sub(r"(\\+)$", r"\1\1", value)
    return mark + re.sub(rf"(\\*){mark}", rf"\1\1\\{mark}", ended) + mark


def _parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True
