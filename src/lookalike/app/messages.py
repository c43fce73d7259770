"""What goes over the wire: the parameters of a request, and the JSON of an answer."""

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict

LONGEST_PAGE = 1000  # hits in one answer
MOST_EXAMPLES = 32

Texts = Annotated[list[str], Query(max_length=MOST_EXAMPLES)]


class Chosen(BaseModel):
    """Which items, of which index, and which part of the list."""

    model_config = ConfigDict(extra="forbid")

    index: Annotated[str, Query(description="Name of the index; the first one by default")] = ""
    where: Annotated[
        str, Query(description="A filter on columns, such as class == 'bed' and file_size > 50000")
    ] = ""
    only: Annotated[
        Texts, Query(description="Values of columns: class=bed, or of numbers price=10..200")
    ] = []
    k: Annotated[int, Query(ge=0, le=LONGEST_PAGE, description="Items on this page")] = 60
    offset: Annotated[int, Query(ge=0, le=10**9, description="Items before this page")] = 0


class Browsed(Chosen):
    """Parameters of /items."""

    order: Annotated[
        Literal["stored", "mixed"], Query(description="mixed: all classes from the beginning")
    ] = "stored"


class Searched(Chosen):
    """Parameters of /search."""

    positive: Annotated[
        Texts,
        Query(description="Examples: NAME/ID, image:SHA256, file:0; @l,t,r,b in 0..1 cuts one"),
    ] = []
    negative: Annotated[Texts, Query(description="Examples that hits shall not look like")] = []
    threshold: Annotated[
        float, Query(ge=-1, le=1, description="Least cosine similarity of a hit")
    ] = -1.0
    fold: Annotated[bool, Query(description="Fold near-duplicates into the best one")] = False
    format: Annotated[Literal["json", "csv"], Query(description="Of the answer")] = "json"


class Compared(BaseModel):
    """Parameters of /regions."""

    model_config = ConfigDict(extra="forbid")

    query: Annotated[str, Query(description="An example, as in /search")]
    id: Annotated[int, Query(ge=0, lt=2**63, description="The item that was found")]
    index: Annotated[str, Query(description="Whose network compares")] = ""


class ItemOut(BaseModel):
    """An item of an index."""

    id: int
    reference: str
    path: str
    class_name: str
    columns: dict[str, Any]
    thumbnail: str


class HitOut(ItemOut):
    """An item that was found."""

    rank: int
    score: float
    copies: list[int]


class Facet(BaseModel):
    """How items spread over the values of a column, or over the bins of its range."""

    column: str
    kind: Literal["values", "range"]
    values: list[dict[str, Any]] = []
    more: int = 0
    low: float = 0
    high: float = 0
    whole: bool = False
    counts: list[int] = []


class ItemsOut(BaseModel):
    """A page of an index."""

    index: str
    total: int
    items: list[ItemOut]
    facets: list[Facet]


class HitsOut(BaseModel):
    """What a search found.

    total: hits at or above the threshold, of the `reach` nearest items.
    more: whether there may be hits beyond these.
    seconds: by step; `waiting` is what the server spent on others.
    """

    index: str
    positive: list[str]
    negative: list[str]
    total: int
    reach: int
    more: bool
    hits: list[HitOut]
    facets: list[Facet]
    seconds: dict[str, float]


class RegionsOut(BaseModel):
    """Which regions of query and hit match.

    why_not: a sentence, if the network has no feature map; the rest is empty then.
    similarity: of each position of the query (row by row) with each of the hit.
    pairs: positions (query, hit) that are each other's nearest, those that add most first.
    views: what the network sees of both, as data URLs.
    """

    why_not: str = ""
    shape: list[int] = []
    similarity: list[list[float]] = []
    pairs: list[list[int]] = []
    views: list[str] = []


class Health(BaseModel):
    """Whether the server answers."""

    status: Literal["ok"] = "ok"
    version: str
    waiting: int


class Problems(BaseModel):
    """Why there is no answer."""

    error: str


class Token(BaseModel):
    """What opens a session."""

    token: Annotated[str, Query(max_length=1000)]
