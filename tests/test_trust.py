"""A checkpoint never decides what code runs, through whatever public way it comes in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_object

import lookalike
from lookalike.errors import InputError
from lookalike.inference.trust import check_trusted

Cli = Callable[..., Any]
HARMLESS = (
    "lookalike.models.heads.Linear",
    "lookalike.models.backbones.torchvision_backbone",
    "lookalike.data.transforms.centred",
    "lookalike.data.sources.folder.Folder",
    "lookalike.losses.softmax.SoftmaxLoss",
    "pytorch_metric_learning.losses.ArcFaceLoss",
    "pytorch_metric_learning.distances.LpDistance",
    "torch.nn.Linear",
    "torchvision.transforms.v2.Resize",
)
HARMFUL = (
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "hydra.utils.get_method",
    "torch.hub.load",
    "torch.load",
    "torch.nn.modules.module.torch.load",
    "torch.nn.Module.load_state_dict",
    "torchvision.datasets.utils.download_url",
    "torchvision.datasets.Flowers102",
    "timm.create_model",
    "lookalike.config.build",
    "lookalike.compatibility.launch",
    "lookalike.data.transforms.torch.hub.load",
    "lookalike.data.sources.download.download",
    "lookalike.data.sources.drawing.drawn.draw_species",
    "lookalike.data.sources.folder.Path",
    "lookalike.models.embedder.deepcopy",
    "lookalike.losses.classifier.sys.exit",
    "distutils.spawn.spawn",
    "setuptools._distutils.spawn.spawn",
    "pathlib.Path.write_text",
    "builtins.open",
    "io.open",
    "torch.save",
    "torch.serialization.load",
    "torch.nn.modules.module.torch.save",
    "lookalike.files.write_text",
    "my_package.Backbone",
    "lookalikes.data.transforms.centred",
)


@pytest.mark.parametrize("target", HARMLESS)
def test_known_parts(target: str) -> None:
    check_trusted({"a": [{"_target_": target, "b": {"_target_": "torch.nn.ReLU"}}]})


@pytest.mark.parametrize("target", HARMFUL)
def test_what_is_no_known_part(target: str) -> None:
    with pytest.raises(InputError, match="must not choose what code runs"):
        check_trusted({"a": [{"_target_": "torch.nn.ReLU", "b": {"_target_": target}}]})


def test_only_what_the_user_names_is_trusted_beside_them() -> None:
    check_trusted({"_target_": "my_package.parts.Backbone"}, ["my_package"])
    with pytest.raises(InputError, match="trust=my_package2"):
        check_trusted({"_target_": "my_package2.Backbone"}, ["my_package"])
    with pytest.raises(InputError, match="is not there"):
        check_trusted({"_target_": "torch.nn.NoSuchLayer"})
    with pytest.raises(InputError, match="refers to"):
        check_trusted({"root": "${oc.env:HOME}"})
    for kind in (None, 3, ["os.system"]):
        with pytest.raises(InputError):
            check_trusted({"_target_": kind})


PLACES = {
    "backbone": ("embedder", "backbone"),
    "head": ("embedder", "head"),
    "loss": ("loss",),
    "view": ("data", "transform", "test"),
    "source": ("data", "source"),
}


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (open, (str(self.file), "w"))


def exploits(folder: Path) -> dict[str, dict[str, Any]]:
    """Ways to write the file `pwned` that a configuration could name, by the place they get."""
    file = folder / "pwned"
    torch.save(Malicious(file), folder / "malicious.pt")
    return {
        "backbone": {"_target_": "os.system", "command": f"touch {file}"},
        "head": {"_target_": "distutils.spawn.spawn", "cmd": ["touch", str(file)]},
        "loss": {"_target_": "builtins.open", "file": str(file), "mode": "w"},
        "view": {
            "_target_": "torch.load", "f": str(folder / "malicious.pt"), "weights_only": False,
        },
        "source": {"_target_": "pathlib.Path.write_text", "self": str(file), "data": ""},
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it stays open
def test_an_exploit_would_work_where_it_is_trusted(tmp_path: Path) -> None:
    for place in ("loss", "view"):
        node = exploits(tmp_path)[place]
        get_object(node.pop("_target_"))(**node)
        assert (tmp_path / "pwned").exists(), place
        (tmp_path / "pwned").unlink()


@pytest.fixture
def exploit(cli: Cli, tiny: tuple[str, ...], tmp_path: Path) -> Callable[[str], Path]:
    """exploit("head"): a checkpoint whose head would write the file `pwned` when it is built."""
    cli("train", *tiny, "loss=softmax", "miner=none", "evaluation.before_training=false",
        "hydra.run.dir=run")  # fmt: skip

    def write(place: str) -> Path:
        file = tmp_path / "run" / "checkpoints" / "best.ckpt"
        content = torch.load(file, weights_only=True)
        *above, name = PLACES[place]
        node = content["lookalike"]["config"]
        for key in above:
            node = node[key]
        node[name] = exploits(tmp_path)[place]
        torch.save(content, tmp_path / "exploit.ckpt")
        torch.save(content, file)
        return tmp_path / "exploit.ckpt"

    return write


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(each, marks=pytest.mark.slow if each in ("head", "view", "loss") else ())
        for each in PLACES
    ],
)
def test_no_public_way_runs_what_a_checkpoint_names(
    place: str,
    exploit: Callable[[str], Path],
    cli: Cli,
    tiny: tuple[str, ...],
    class_folders: Path,
    tmp_path: Path,
) -> None:
    file = exploit(place)
    image = next(class_folders.glob("*/*.png"))
    ways: list[Callable[[], Any]] = [
        lambda: lookalike.load_embedder(file),
        lambda: lookalike.load_classifier(file),
        lambda: cli("evaluate", f"checkpoint={file}"),
        lambda: cli("classify", f"checkpoint={file}", f"images={image}", "num_workers=0"),
        lambda: cli("search", f"checkpoint={file}", f"images={image}", "num_workers=0"),
        lambda: cli("report", "runs=run", "embed=true"),
        lambda: cli("train", *tiny, f"resume={file}", "loss=softmax", "miner=none",
                    "trainer.max_epochs=2", "hydra.run.dir=resumed"),
    ]  # fmt: skip
    rejected = 0
    for way in ways:
        try:
            way()
        except (InputError, SystemExit):
            rejected += 1
    assert not (tmp_path / "pwned").exists()
    assert rejected >= 2  # each way builds only what it needs; a resumed run nothing of the file


def test_a_part_of_ones_own_is_built_once_it_is_trusted(
    cli: Cli,
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = "import torch\n\n\nclass Pooling(torch.nn.AdaptiveAvgPool2d):\n"
    own += "    def forward(self, features):\n        return super().forward(features).flatten(1)\n"
    (tmp_path / "own_parts.py").write_text(own)
    monkeypatch.syspath_prepend(str(tmp_path))
    pooling = ("pooling._target_=own_parts.Pooling", "+pooling.output_size=1")
    cli("train", *tiny, *pooling, "evaluation.before_training=false", "hydra.run.dir=run")
    checkpoint = "run/checkpoints/best.ckpt"
    with pytest.raises(SystemExit):
        cli("evaluate", f"checkpoint={checkpoint}")
    assert "trust=own_parts" in capsys.readouterr().err
    assert 0 <= cli("evaluate", f"checkpoint={checkpoint}", "trust=own_parts") <= 1
    with pytest.raises(InputError, match="trust=own_parts"):
        lookalike.load_embedder(checkpoint)
    assert lookalike.load_embedder(checkpoint, trust=["own_parts"])([]).shape == (0, 8)
