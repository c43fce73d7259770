"""Templates filled in; every text is escaped, and what is `Markup` already stays as it is."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

PACKAGE = "lookalike.reports.page"


def rendered(template: str, /, **values: object) -> Markup:
    """HTML of a template.

    Args:
        template: a file in templates/, without its ending.
        values: by the names that it uses.
    """
    return Markup(_environment().get_template(f"{template}.html.jinja").render(values))


def asset(name: str) -> Markup:
    """The text of our own page.css or page.js."""
    return Markup(files(PACKAGE).joinpath(name).read_text(encoding="utf-8"))


def content_policy(style: str, script: str) -> str:
    """The Content-Security-Policy of a page: its own style and script, images inside it, no more.

    Args:
        style: the text between the tags, to the last character.
        script: the same.
    """
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


@cache
def _environment() -> Environment:
    return Environment(
        autoescape=True,
        loader=PackageLoader(PACKAGE),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
