"""Filters on the columns of items, such as "class == 'bed' and price < 200".

sqlglot parses the text, in SQL's words, and Arrow compares the columns. Only comparisons, and, or,
not, in, between, like and is null are known: there are no functions, no queries and no files, and
the work is a few passes over the columns. So a text may come from a stranger.
"""

from collections.abc import Callable
from functools import reduce
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from lookalike.errors import InputError, did_you_mean

pc: Any = pyarrow.compute  # its functions are made at run time

LONGEST = 2000  # characters
DEEPEST = 20  # parentheses inside each other; more can be too deep for Python
EXAMPLE = "where=\"class == 'bed' and file_size > 50000\""

Values = Any  # an Arrow array or scalar


def where(text: str, table: pa.Table) -> NDArray[np.bool_]:
    """Which rows of a table (N,) a filter keeps. A comparison with a missing value keeps nothing.

    >>> table = pa.table({"class": ["bed", "bed", "sofa"], "price": [99, 250, 120]})
    >>> where("class == 'bed' and price < 200", table).tolist()
    [True, False, False]

    Args:
        text: a condition. Names of columns with spaces stand in double quotes, texts in single
            ones.
        table: with the columns that it names.

    Raises:
        InputError: the text does not parse, names a missing column, or compares what can't be
            compared.
    """
    tree = parsed(text)
    try:
        kept = _evaluate(tree, table)
        if isinstance(kept, pa.Scalar) or not pa.types.is_boolean(kept.type):
            raise InputError(f"where={text} is no condition on a column. Write {EXAMPLE}.")
    except pa.ArrowException as error:
        raise InputError(
            f"where={text} compares what can't be compared ({error}). Texts stand in single "
            f"quotes, numbers in none: {EXAMPLE}."
        ) from error
    return pc.fill_null(kept, False).to_numpy(zero_copy_only=False)


def column_names(text: str) -> list[str]:
    """The columns that a filter names, each once.

    Raises:
        InputError: the text does not parse.
    """
    from sqlglot import exp

    return list(dict.fromkeys(column.name for column in parsed(text).find_all(exp.Column)))


def parsed(text: str) -> Any:
    """A filter as sqlglot's tree.

    Raises:
        InputError: it does not parse, is too long, or is no single condition.
    """
    import sqlglot  # 0.1 s that a search without a filter does not need
    from sqlglot.errors import SqlglotError

    deepest = max(accumulate((each == "(") - (each == ")") for each in text), default=0)
    if len(text) > LONGEST or deepest > DEEPEST:
        raise InputError(
            f"where= takes {LONGEST} characters and {DEEPEST} parentheses inside each other at "
            f"most; this has {len(text)} and {deepest}. Add a column to the table, and filter by "
            "that."
        )
    try:
        trees = sqlglot.parse(text, dialect="duckdb")  # which takes == for =
    except (SqlglotError, RecursionError) as error:
        described: list[dict[str, str]] = getattr(error, "errors", [])
        reason = described[0]["description"] if described else str(error).splitlines()[0]
        raise InputError(f"where={text} does not parse ({reason}). Write {EXAMPLE}.") from error
    if len(trees) != 1 or trees[0] is None:
        raise InputError(f"where={text} is not one condition. Write {EXAMPLE}.")
    return trees[0]


def _evaluate(node: Any, table: pa.Table) -> Values:
    rule = _rules().get(type(node).__name__)
    if rule is None:
        raise InputError(
            f"where= does not know {node.sql(dialect='duckdb')!r}. It knows ==, !=, <, <=, >, >=, "
            f"and, or, not, in, between, like, is null: {EXAMPLE}."
        )
    try:
        return rule(node, lambda child: _evaluate(child, table), table)
    except RecursionError as error:
        raise InputError("where= has too many parts inside each other. Shorten it.") from error


Rule = Callable[[Any, Callable[[Any], Values], pa.Table], Values]


def _rules() -> dict[str, Rule]:
    """What each kind of node does, by the name of its class in sqlglot."""
    return {
        "Paren": lambda node, of, _: of(node.this),
        "And": lambda node, of, _: pc.and_kleene(of(node.this), of(node.expression)),
        "Or": lambda node, of, _: pc.or_kleene(of(node.this), of(node.expression)),
        "Not": lambda node, of, _: pc.invert(of(node.this)),
        "EQ": _comparison(pc.equal),
        "NEQ": _comparison(pc.not_equal),
        "LT": _comparison(pc.less),
        "LTE": _comparison(pc.less_equal),
        "GT": _comparison(pc.greater),
        "GTE": _comparison(pc.greater_equal),
        "Between": _between,
        "In": _in,
        "Is": lambda node, of, _: pc.equal(pc.is_null(of(node.this)), _is_null(node.expression)),
        "Like": lambda node, of, _: pc.match_like(of(node.this), _pattern(node)),
        "ILike": lambda node, of, _: pc.match_like(of(node.this), _pattern(node), ignore_case=True),
        "Column": _column,
        "Literal": lambda node, of, _: pa.scalar(node.this if node.is_string else _number(node)),
        "Neg": lambda node, of, _: pc.negate(of(node.this)),
        "Boolean": lambda node, of, _: pa.scalar(bool(node.this)),
    }


def _comparison(compare: Callable[[Values, Values], Values]) -> Rule:
    def rule(node: Any, of: Callable[[Any], Values], table: pa.Table) -> Values:
        return compare(*_comparable(of(node.this), of(node.expression)))

    return rule


def _between(node: Any, of: Callable[[Any], Values], table: pa.Table) -> Values:
    value, low, high = of(node.this), of(node.args["low"]), of(node.args["high"])
    return pc.and_kleene(
        pc.greater_equal(*_comparable(value, low)), pc.less_equal(*_comparable(value, high))
    )


def _in(node: Any, of: Callable[[Any], Values], table: pa.Table) -> Values:
    if not node.expressions:
        raise InputError("where= needs a list behind in, such as class in ('bed', 'sofa')")
    value = of(node.this)
    equal = [pc.equal(*_comparable(value, of(each))) for each in node.expressions]
    return reduce(pc.or_kleene, equal)


def _comparable(left: Values, right: Values) -> tuple[Values, Values]:
    """The same, a text turned into what it is compared with, such as a date."""
    for one, other, turned in ((left, right, False), (right, left, True)):
        text = isinstance(one, pa.Scalar) and pa.types.is_string(one.type)
        if text and pa.types.is_temporal(other.type):
            pair = (one.cast(other.type), other)
            return pair[::-1] if turned else pair
    return left, right


def _column(node: Any, of: Callable[[Any], Values], table: pa.Table) -> Values:
    name = node.name
    if node.table or table.column_names.count(name) != 1:
        shown = f"{node.table}.{name}" if node.table else name
        raise InputError(
            f"where= names the column {shown!r}, which is not there. There are "
            f"{', '.join(table.column_names)}; texts stand in single quotes."
            f"{did_you_mean(name, table.column_names)}"
        )
    return table[name]


def _pattern(node: Any) -> str:
    pattern = node.expression
    if type(pattern).__name__ != "Literal" or not pattern.is_string:
        raise InputError("where= needs a text behind like, such as path like '%chairs%'")
    return pattern.this


def _is_null(node: Any) -> bool:
    if type(node).__name__ != "Null":
        raise InputError("where= takes is null and is not null; compare other values with ==")
    return True


def _number(node: Any) -> int | float:
    try:
        return int(node.this)
    except ValueError:
        return float(node.this)
