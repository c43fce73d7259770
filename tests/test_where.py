"""Filters on items: what they keep, computed by loops, and texts that they refuse."""

import datetime
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from lookalike.errors import InputError
from lookalike.retrieval.where import where

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
        ("((((" * 20 + "price" + "))))" * 20, "parentheses at most"),
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
