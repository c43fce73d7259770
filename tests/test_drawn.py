"""Drawn flowers are the same everywhere, different from each other, and complete or absent."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike.data.sources.drawing import botany, drawn
from lookalike.data.sources.drawing.drawn import Drawn
from lookalike.data.sources.drawing.painting import draw
from lookalike.errors import InputError

# If these change, so does every score measured on the set: raise drawn.VERSION as well.
GOLDEN = {
    (0, 0, 0): "2f72aa8ebd69605c",
    (0, 27, 3): "a2a2e57d919bd244",
    (1, 59, 39): "fef3341f31526321",
}


def tiny(root: Path, **settings: int) -> Drawn:
    settings = {"species": 3, "images_per_species": 2, "size": 16} | settings
    return Drawn(str(root), **settings)


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # more take longer to start than to draw


@pytest.mark.parametrize(("seed", "number", "image"), GOLDEN)
def test_pixels_are_the_same_on_every_machine(seed: int, number: int, image: int) -> None:
    pixels = draw(seed, number, image, 48)
    assert pixels.shape == (48, 48, 3)
    assert pixels.dtype == np.uint8
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == GOLDEN[seed, number, image]


def test_seed_species_and_image_each_matter() -> None:
    pictures = [draw(*key, 32) for key in ((0, 0, 0), (1, 0, 0), (0, 20, 0), (0, 0, 1))]
    for first in range(4):
        for second in range(first):
            difference = np.abs(pictures[first].astype(int) - pictures[second]).mean()
            assert difference > 10


def test_pictures_of_a_species_show_its_colours() -> None:
    """The middle of a picture is mostly the blossom, so red and blue species must not meet."""
    kinds = {number: botany.species(0, number) for number in range(100)}
    reds = [n for n, kind in kinds.items() if {kind.colour, kind.tip_colour} == {"red"}]
    blues = [n for n, kind in kinds.items() if {kind.colour, kind.tip_colour} == {"blue"}]
    assert len(reds) >= 2
    assert len(blues) >= 1

    def redness(number: int) -> float:
        middles = [draw(0, number, image, 32)[8:24, 8:24].astype(float) for image in range(6)]
        return float(np.mean([middle[..., 0].mean() - middle[..., 2].mean() for middle in middles]))

    assert min(map(redness, reds)) > max(map(redness, blues)) + 20


def test_names_are_unique_whatever_the_number_of_species() -> None:
    names = {botany.species(0, number).name for number in range(1000)}
    assert len(names) == 1000
    assert all(name.replace(" ", "").isalnum() for name in names)


def test_every_genus_is_on_both_sides_of_the_zero_shot_split() -> None:
    genera = [botany.species(0, number).name.split()[0] for number in range(100)]
    assert set(genera[:50]) == set(genera[50:])
    assert len(set(genera)) == 20


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_draws_what_the_records_say(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: workers)
    flowers = tiny(tmp_path)
    flowers.prepare()
    records = flowers.records()
    assert records.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert records.class_names == tuple(botany.species(0, number).name for number in range(3))
    assert set(records.paths) == {str(file) for file in flowers.folder.rglob("*.png")}
    for row, path in enumerate(records.paths):
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image), draw(0, row // 2, row % 2, 16))


def test_other_settings_lie_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ({}, {"species": 4}, {"images_per_species": 3}, {"size": 17}, {"seed": 1})
    folders = {tiny(tmp_path, **changed).folder for changed in settings}
    monkeypatch.setattr(drawn, "VERSION", drawn.VERSION + 1)
    folders.add(tiny(tmp_path).folder)
    assert len(folders) == 6


def test_an_interrupted_drawing_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowers = tiny(tmp_path)

    def interrupted(_: Drawn, folder: Path) -> None:
        (folder / "half a species").mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Drawn, "_draw", interrupted)
        with pytest.raises(KeyboardInterrupt):
            flowers.prepare()
    with pytest.raises(InputError, match="prepare"):
        flowers.records()
    flowers.prepare()
    assert len(list(flowers.folder.glob("*/*.png"))) == 6
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == [flowers.folder.name]


def test_a_failing_worker_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flowers = tiny(tmp_path, size=-1)
    with pytest.raises(RuntimeError, match="failed"):
        flowers.prepare()
    assert not flowers.folder.exists()
    assert "Error" in capfd.readouterr().err


def test_of_several_at_once_one_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawings: list[Path] = []
    once = Drawn._draw

    def counted(self: Drawn, folder: Path) -> None:
        drawings.append(folder)
        once(self, folder)

    monkeypatch.setattr(Drawn, "_draw", counted)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: tiny(tmp_path).prepare(), range(3)))
    assert len(drawings) == 1


def test_a_script_without_a_main_guard_can_prepare(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('started')\n"
        "from lookalike.data.sources.drawing.drawn import Drawn\n"
        f"Drawn({str(tmp_path)!r}, species=1, images_per_species=1, size=8).prepare()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script)]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert output.stdout.count("started") == 1
    assert len(list(tmp_path.glob("drawn-*/*/*.png"))) == 1
