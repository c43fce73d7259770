"""Names and paths on the command line are text; what Hydra can't take gets a form to copy."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from lookalike.commands.quoting import remedy, with_texts


def value(override: str) -> Any:
    return OverridesParser.create().parse_override(override).value()


@pytest.mark.parametrize("name", ["7", "007", "1_0", "1e3", "true", "nan", "-inf", "1.50", "+3"])
def test_names_that_look_like_numbers_stay_text(name: str) -> None:
    assert value(with_texts(f"class={name}")) == name
    assert value(with_texts(f"data.root={name}")) == name
    assert value(with_texts(f"data.classes=[bed, {name},'7']")) == ["bed", name, "7"]


def test_other_values_are_left_alone() -> None:
    for each in ("seed=7", "class=null", "class='7'", "data=folder", "-m", "data.classes=null"):
        assert with_texts(each) == each


PATHS = [
    "Blüten", "a=b/x", "photos (1)", "it's", 'a"b', "it's \"b\"", "x\\", "a[1]", "~/x", "{x}",
    "a;b", "花", "a&b", "x#1", "a\\'b (", "50%!", "(", "a, b (c)", "?", "*|",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_the_form_to_copy_means_the_path(path: str) -> None:
    (typed,) = shlex.split(remedy(f"data.root={path}"))
    assert value(typed) == path


def test_parts_of_a_list_are_quoted_one_by_one() -> None:
    (typed,) = shlex.split(remedy("images=[photos (1)/a.jpg,b.jpg]"))
    assert value(typed) == ["photos (1)/a.jpg", "b.jpg"]


@pytest.mark.parametrize("verb", ["prepare", "train"])
@pytest.mark.parametrize("path", ["Blüten", "photos (1)", "a=b/x"])
def test_a_verb_says_what_to_copy(
    cli: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    path: str,
) -> None:
    with pytest.raises(SystemExit):
        cli(verb, "data=folder", f"data.root={path}")
    said = capsys.readouterr().err
    assert f"""'data.root="{path}"'""" in said
    assert "Traceback" not in said
    (tmp_path / path / "a").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / path / "a" / "1.png")
    if verb == "prepare":
        assert cli(verb, "data=folder", f'data.root="{path}"') == 1


def test_a_sweep_says_what_to_copy(
    cli: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli("train", "-m", "data=folder", "data.root=photos (1)", "seed=0,1")
    assert """'data.root="photos (1)"'""" in capsys.readouterr().err
