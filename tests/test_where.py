"""Filters on items: what they keep, computed by loops, and texts that they refuse."""

import datetime
import importlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from lookalike.errors import InputError
from lookalike.retrieval.where import column_names, where

where_module = importlib.import_module("lookalike.retrieval.where")

ROWS = [
    {"class": "bed", "price": 99, "day": datetime.date(2024, 1, 5), "my colour": "red"},
    {"class": "sofa", "price": 250, "day": datetime.date(2025, 3, 1), "my colour": "dark red"},
    {"class": None, "price": -3, "day": None, "my colour": "100%"},
    {"class": "it's", "price": None, "day": datetime.date(2023, 1, 1), "my colour": ""},
]
TABLE = pa.Table.from_pylist(ROWS)


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        ("class == 'bed' and price < 200", lambda r: r["class"] == "bed" and r["price"] < 200),
        ("class = 'bed' or price >= 250", lambda r: r["class"] == "bed" or r["price"] == 250),
        ("NOT (class = 'bed')", lambda r: r["class"] not in (None, "bed")),
        ("class != 'bed'", lambda r: r["class"] not in (None, "bed")),
        ("class is null", lambda r: r["class"] is None),
        ("price is not null", lambda r: r["price"] is not None),
        ("price in (99, -3)", lambda r: r["price"] in (99, -3)),
        ("price between -3 and 99.5", lambda r: r["price"] is not None and r["price"] <= 99.5),
        ("day > '2024-01-01'", lambda r: r["day"] and r["day"].year >= 2024),
        ("'2024-01-01' > day", lambda r: r["day"] and r["day"].year < 2024),
        ("\"my colour\" like '%red'", lambda r: r["my colour"].endswith("red")),
        ("\"my colour\" ilike 'RED'", lambda r: r["my colour"] == "red"),
        ("class == 'it''s'", lambda r: r["class"] == "it's"),
    ],
)  # fmt: skip
def test_a_filter_keeps_what_a_loop_keeps(
    text: str, keeps: Callable[[dict[str, Any]], bool]
) -> None:
    assert where(text, TABLE).tolist() == [bool(keeps(row)) for row in ROWS]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clas == 'bed'", "'clas', which is not there.*Did you mean class"),
        ('class == "bed"', "'bed', which is not there.*single quotes"),
        ("class ==", "does not parse"),
        ("", "not one condition"),
        ("price == 1; drop table x", "not one condition"),
        ("price < 'a'", "can't be compared"),
        ("day > 'soon'", "can't be compared"),
        ("class", "no condition"),
        ("1 = 1", "no condition"),
        ("lower(class) == 'bed'", "does not know"),
        ("exists(select * from read_csv('/etc/passwd'))", "does not know"),
        ("class in (select 'bed')", "a list behind in"),
        ("select 1", "does not know"),
        ("class like price", "a text behind like"),
        ("__import__('os').system('x')", "does not|parse"),
        ("((((" * 20 + "price" + "))))" * 20, "parentheses inside each other at most"),
        ("price = 1 or " * 300 + "price = 2", "characters"),
        ("not " * 400 + "price = 1", "inside each other|does not parse"),
        ("price - 1 = 2", "does not know 'price - 1'"),
        ("price is 3", "takes is null and is not null; compare other values with =="),
        ("price = = 1", "does not parse .*Write"),
    ],
)
def test_what_a_filter_refuses_is_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        where(text, TABLE)
    assert "\n" not in str(caught.value)


KNOWN = "It knows ==, !=, <, <=, >, >=, and, or, not, in, between, like, is null"
EXAMPLE = "where=\"class == 'bed' and file_size > 50000\""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "clas == 'bed'",
            "where= names the column 'clas', which is not there. There are class, price, day, my "
            "colour; texts stand in single quotes. Did you mean class?",
        ),
        (
            "t.class == 'bed'",
            "where= names the column 't.class', which is not there. There are class, price, day, "
            "my colour; texts stand in single quotes. Did you mean class?",
        ),
        ("price; price", f"where=price; price is not one condition. Write {EXAMPLE}."),
        ("1 = 1", f"where=1 = 1 is no condition on a column. Write {EXAMPLE}."),
        ("price", f"where=price is no condition on a column. Write {EXAMPLE}."),
        ("lower(class) = 'a'", f"where= does not know 'LOWER(class)'. {KNOWN}: {EXAMPLE}."),
        ("class in (select 'bed')",
         "where= needs a list behind in, such as class in ('bed', 'sofa')"),
        ("class like price", "where= needs a text behind like, such as path like '%chairs%'"),
        ("class like 3", "where= needs a text behind like, such as path like '%chairs%'"),
        ("price is 3", "where= takes is null and is not null; compare other values with =="),
        (
            "x" * 2001,
            "where= takes 2000 characters and 20 parentheses inside each other at most; this has "
            "2001 and 0. Add a column to the table, and filter by that.",
        ),
        (
            "(" * 21 + "price = 1" + ")" * 21,
            "where= takes 2000 characters and 20 parentheses inside each other at most; this has "
            "51 and 21. Add a column to the table, and filter by that.",
        ),
    ],
)  # fmt: skip
def test_every_refusal_is_told_in_full(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        where(text, TABLE)
    assert str(caught.value) == message


def test_what_does_not_parse_and_what_cannot_be_compared_give_the_reason() -> None:
    with pytest.raises(InputError) as caught:
        where("price = = 1", TABLE)
    assert str(caught.value).startswith("where=price = = 1 does not parse (")
    assert str(caught.value).endswith(f"). Write {EXAMPLE}.")
    reason = str(caught.value).partition("(")[2].partition(")")[0]
    assert reason not in ("", "None")
    assert "Line 1" not in reason  # there is one line only
    with pytest.raises(InputError) as caught:
        where("price < 'a'", TABLE)
    start = "where=price < 'a' compares what can't be compared ("
    assert str(caught.value).startswith(start)
    assert len(str(caught.value)) > len(start) + 150  # with Arrow's reason
    assert str(caught.value).endswith(
        f"). Texts stand in single quotes, numbers in none: {EXAMPLE}."
    )


@pytest.mark.parametrize("text", ["price = '99'", "day > 3", "class > day", "'99' = price"])
def test_only_a_text_is_turned_into_a_date_and_into_nothing_else(text: str) -> None:
    with pytest.raises(InputError, match="compares what can't be compared"):
        where(text, TABLE)


def test_a_column_of_texts_is_not_turned_into_dates() -> None:
    days = pa.table({"day": [datetime.date(2024, 1, 5)], "said": ["2024-01-04"]})
    for text in ("day > said", "said < day"):
        with pytest.raises(InputError, match="compares what can't be compared"):
            where(text, days)


def test_a_text_that_is_too_deep_for_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(text: str, dialect: str) -> None:
        raise RecursionError("maximum recursion depth exceeded\nin a parser")

    monkeypatch.setattr("sqlglot.parse", deep)
    with pytest.raises(InputError) as caught:
        where("price = 1", TABLE)
    assert str(caught.value) == (
        f"where=price = 1 does not parse (maximum recursion depth exceeded). Write {EXAMPLE}."
    )


def test_as_much_as_is_allowed() -> None:
    deepest = "(" * 20 + "price = 99" + ")" * 20
    assert where(deepest, TABLE).tolist() == [True, False, False, False]
    beside = " or ".join(["(price = 99)"] * 60 + ["class = 'a (1)'"])
    assert where(beside, TABLE).tolist() == [True, False, False, False]
    longest = "price = 99" + " " * 1990
    assert len(longest) == 2000
    assert where(longest, TABLE).tolist() == [True, False, False, False]


def test_parts_that_are_too_deep_for_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(node: Any, table: Any) -> Any:
        raise RecursionError

    monkeypatch.setattr(where_module, "_rules", lambda: {"EQ": lambda node, of, table: deep(1, 2)})
    with pytest.raises(InputError) as caught:
        where("price = 1", TABLE)
    assert str(caught.value) == "where= has too many parts inside each other. Shorten it."


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        ("price < 99", [2]), ("price <= 99", [0, 2]), ("price > 99", [1]), ("price >= 99", [0, 1]),
        ("price != 99", [1, 2]), ("price = -3", [2]), ("price = 99.0", [0]),
        ("price > 98.5", [0, 1]),
        ("price between 99 and 250", [0, 1]), ("price between 100 and 249", []),
        ("price not in (99, 250)", [2]), ("class in ('bed', 'it''s')", [0, 3]),
        ("not (price = 99)", [1, 2]), ("not price = 99 and not price = 250", [2]),
        ("price = 99 or class is null", [0, 2]), ("class is not null and price is null", [3]),
        ("price = 99 or class = 'it''s'", [0, 3]),  # one of the two is missing
        ("price = -3 and class = 'bed'", []),
        ("day = '2024-01-05'", [0]), ("'2024-01-05' < day", [1]), ("day between '2023-01-01' and "
         "'2024-01-05'", [0, 3]), ("day in ('2025-03-01', '2020-01-01')", [1]),
        ("\"my colour\" like 'RED'", []), ("\"my colour\" ilike '%RED'", [0, 1]),
        ("\"my colour\" like '%!%'", []), ("\"my colour\" = ''", [3]),
        ("true and price = 99", [0]), ("false or price = 99", [0]), ("price = -(-99)", [0]),
    ],
)  # fmt: skip
def test_every_word_by_its_rows(text: str, keeps: list[int]) -> None:
    found = where(text, TABLE)
    assert found.dtype == bool
    assert [row for row, kept in enumerate(found.tolist()) if kept] == keeps


def test_columns_that_a_filter_names() -> None:
    assert column_names("class = 'a' and (price > 1 or class is null)") == ["class", "price"]
    assert column_names("true") == []


def test_a_column_that_is_there_twice_is_none() -> None:
    twice = pa.table([[1], [2]], names=["a", "a"])
    with pytest.raises(InputError, match=r"names the column 'a', which is not there"):
        where("a = 1", twice)
