"""Small HTML for notebooks: thumbnails with captions, and tables. All texts are escaped."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO

from PIL import Image

SIDE = 112  # of a thumbnail, pixels
SHOWN = 5  # lines of what is long


def thumbnail(picture: Image.Image, alternative: str, side: int = SIDE) -> str:
    """A picture inside the page.

    Args:
        picture: of any size; it is not changed.
        alternative: what it shows, in words.
        side: of the square that it fits in, pixels.
    """
    small = picture.convert("RGB")
    small.thumbnail((side, side))
    stream = BytesIO()
    small.save(stream, "JPEG", quality=85)
    data = b64encode(stream.getvalue()).decode()
    return f'<img alt="{escape(alternative)}" src="data:image/jpeg;base64,{data}">'


def captioned(picture: str, lines: Sequence[str], side: int = SIDE) -> str:
    """A thumbnail with lines of text below it."""
    return (
        f'<figure style="margin:0;width:{side}px;font-size:11px;overflow-wrap:anywhere">{picture}'
        f"<figcaption>{'<br>'.join(map(escape, lines))}</figcaption></figure>"
    )


def beside(figures: Iterable[str]) -> str:
    """Figures in lines, as many as fit."""
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px">{"".join(figures)}</div>'


def paragraph(text: str, bold: bool = False) -> str:
    """A sentence."""
    return f"<p><b>{escape(text)}</b></p>" if bold else f"<p>{escape(text)}</p>"


def table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Cells with a heading.

    >>> table(["class", "n"], [["<b>", 3]])
    '<table><tr><th>class</th><th>n</th></tr><tr><td>&lt;b&gt;</td><td>3</td></tr></table>'
    """
    return f"<table>{_line('th', head)}{''.join(_line('td', line) for line in lines)}</table>"


def _line(kind: str, cells: Sequence[object]) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(str(cell))}</{kind}>' for cell in cells)}</tr>"
