"""Templates filled in; every text is escaped, and what is `Markup` already stays as it is."""

from functools import cache
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


@cache
def _environment() -> Environment:
    return Environment(
        autoescape=True,
        loader=PackageLoader(PACKAGE),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
