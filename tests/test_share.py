"""Sharing: folders and the Hub give back the same network, and what is wrong is said."""

import json
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from safetensors.torch import load_file, save_file

import lookalike
from hub_server import FakeHub
from lookalike.data.sources.hub import HubData
from lookalike.errors import InputError
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.inference.places import here, portable
from lookalike.inference.share import share_as_folder

Cli = Callable[..., Any]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeHub]]:
    """The client's Hub is a local server, and its cache an empty folder."""
    from huggingface_hub import constants

    class Served(FakeHub):
        folder, created = tmp_path / "hub", []

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    with ThreadingHTTPServer(("127.0.0.1", 0), Served) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Served
        server.shutdown()


@pytest.fixture
def best(cli: Cli, tiny: tuple[str, ...]) -> Path:
    cli("train", *tiny, "loss=softmax", "miner=none", "hydra.run.dir=run")
    return Path("run/checkpoints/best.ckpt").absolute()


@pytest.fixture
def images(class_folders: Path) -> list[Path]:
    return sorted(class_folders.glob("*/*.png"))[:20]


def test_a_folder_is_the_network_itself(
    best: Path, cli: Cli, images: list[Path], class_folders: Path
) -> None:
    embed = lookalike.load_embedder(best)
    folder = embed.save_pretrained("net", licence="mit")
    again = lookalike.ImageEmbedder.from_pretrained(folder)
    np.testing.assert_array_equal(embed(images), again(images))
    whole, shared = read_checkpoint(best), read_checkpoint(folder)
    assert whole.fingerprint() == shared.fingerprint()
    assert whole.class_names == shared.class_names
    assert whole.state.keys() == load_file(folder / "model.safetensors").keys()
    third = again.save_pretrained("third")
    assert (third / "README.md").read_text() == (folder / "README.md").read_text()
    score = cli("evaluate", f"checkpoint={best}")
    assert cli("evaluate", "checkpoint=net", f"data.root={class_folders}") == score
    named = cli("classify", "checkpoint=net", f"images={images[0]}", "num_workers=0")
    assert named == cli("classify", f"checkpoint={best}", f"images={images[0]}", "num_workers=0")
    given = (f"images={images[0]}", f"gallery={class_folders}", "within=all", "num_workers=0")
    assert cli("search", "checkpoint=net", *given) == 1


def test_nothing_of_this_machine_is_shared(best: Path, cli: Cli, tmp_path: Path) -> None:
    cli("share", f"checkpoint={best}", "to=net", "licence=mit")
    for name in ("config.json", "README.md"):
        text = (tmp_path / "net" / name).read_text()
        assert str(tmp_path.parent) not in text
        assert "/tmp" not in text
        assert str(Path.home()) not in text
    card = (tmp_path / "net" / "README.md").read_text()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for name in ("epoch_0/test/map_at_r", "test/map_at_r", "test/recall_at_1"):
        assert f"{metrics[name]:.4f}" in card
    assert 'license: "mit"' in card
    assert "lookalike train" in card
    assert "loss=softmax" in card


@pytest.mark.slow
def test_a_card_of_several_seeds(best: Path, cli: Cli, tiny: tuple[str, ...]) -> None:
    cli("train", *tiny, "loss=softmax", "miner=none", "seed=1", "hydra.run.dir=again")
    cli("share", f"checkpoint={best}", "to=net", "runs=[run,again]")
    values = [
        json.loads((Path(run) / "metrics.json").read_text())["test/map_at_r"]
        for run in ("run", "again")
    ]
    half = 12.706204736 * np.std(values, ddof=1) / np.sqrt(2)  # Student's t, one degree
    assert f"{np.mean(values):.4f} ± {half:.4f}" in Path("net/README.md").read_text()
    cli("train", *tiny, "loss=softmax", "miner=none", "embedding_size=4", "hydra.run.dir=other")
    with pytest.raises(SystemExit):
        cli("share", f"checkpoint={best}", "to=net2", "runs=[run,other]")


def change(key: str, value: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "config.json"
        content = json.loads(file.read_text())
        *above, name = key.split(".")
        node = content
        for part in above:
            node = node[part]
        node[name] = value
        file.write_text(json.dumps(content))

    return apply


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])


def alter(folder: Path) -> None:
    file = folder / "model.safetensors"
    state = load_file(file)
    next(iter(state.values())).view(-1)[0] += 1
    save_file(state, file)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"no config\.json in .*Give a folder"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"no model\.safetensors in"),
        (lambda folder: (folder / "config.json").write_text("{"), "is no JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not written by lookalike"),
        (truncate, "is damaged .*Fetch or share it again"),
        (alter, "the weights differs from its checksum"),
        (change("lookalike.format", 3), "newer lookalike .*upgrade"),
        (change("lookalike.format", 1), "older lookalike"),
        (change("lookalike.config", {}), "it lacks config.name"),
        (change("lookalike.class_names", None), "lacks lookalike.class_names"),
        (change("lookalike.config.embedder.head.embedding_size", 5), "not fit its own"),
        (change("lookalike.config.embedder.head._target_", "os.system"), "trust=os"),
        (change("lookalike.config.data.transform.test._target_", "os.system"), "trust=os"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder(
    shared: Path, tmp_path: Path, harm: Callable[[Path], Any], said: str
) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in shared.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    harm(folder)
    with pytest.raises(InputError, match=said) as error:
        lookalike.ImageEmbedder.from_pretrained(folder)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def shared(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared folder, of a network that was not trained."""
    from conftest import TINY
    from lookalike.config import compose
    from lookalike.training.experiment import Experiment

    folder = tmp_path_factory.mktemp("shared")
    config = compose("train", [*TINY, "data=folder", f"data.root={class_folders}"])
    checkpoint = Experiment(config, folder).fit()
    return share_as_folder(checkpoint, folder / "net")


def test_a_folder_is_not_written_over(shared: Path) -> None:
    embed = lookalike.load_embedder(shared)
    with pytest.raises(InputError, match="Give another folder"):
        embed.save_pretrained(shared)
    made = lookalike.ImageEmbedder(embed.embedder, embed.transform)
    with pytest.raises(InputError, match="put together in Python"):
        made.save_pretrained("new")


def test_paths_find_their_place_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"root": "/a/data/cub", "source": {"root": "/a/data/cub", "file": "/b/x.csv"},
            "cache_folder": "/c/images", "cache": "disk", "classes": ["/odd"]}  # fmt: skip
    given = portable(data, {"data": "/a/data", "cache": "/c"})
    assert "/a" not in json.dumps(given)
    monkeypatch.setenv("LOOKALIKE_DATA", "/here")
    monkeypatch.setenv("LOOKALIKE_CACHE", "/there")
    found = here(given)
    assert found["source"] == {"root": "/here/cub", "file": "/here/x.csv"}
    assert found["root"] == "/here/cub"
    assert found["cache_folder"] == "/there/images"
    assert found["cache"] == "none"


def test_to_the_hub_and_back(hub: type[FakeHub], shared: Path, images: list[Path]) -> None:
    embed = lookalike.load_embedder(shared)
    embed.push_to_hub("me/net")
    assert hub.created[0]["name"] == "net"
    asked = hub.created[0]
    assert asked.get("visibility") == "private" or asked.get("private") is True  # an older client
    sent = {file.name for file in (hub.folder / "models/me/net").iterdir()}
    assert {"config.json", "model.safetensors", "README.md"} <= sent
    again = lookalike.ImageEmbedder.from_pretrained("me/net")
    np.testing.assert_array_equal(again(images), embed(images))
    hub.folder.rename(hub.folder.with_name("gone"))
    with pytest.raises(InputError, match="the Hub has no me/other, or it is private"):
        lookalike.ImageEmbedder.from_pretrained("me/other")
    with pytest.raises(InputError, match="neither a folder nor"):
        lookalike.ImageEmbedder.from_pretrained("no/such/folder")


def test_without_a_network(
    hub: type[FakeHub], shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"can't get to me/net .*Check the network"):
        lookalike.ImageEmbedder.from_pretrained("me/net")
    with pytest.raises(InputError, match=r"can't get to me/net .*Check the network"):
        lookalike.load_embedder(shared).push_to_hub("me/net")


def test_weights_of_the_hub(hub: type[FakeHub]) -> None:
    from lookalike.models.backbones import torchvision_backbone
    from lookalike.models.timm_backbone import timm_backbone

    given = (48, (0.5,) * 3, (0.5,) * 3)
    fresh = torchvision_backbone("resnet18", None, *given, "layer4")
    repository = hub.folder / "models" / "me" / "resnet"
    repository.mkdir(parents=True)
    save_file(fresh.network.state_dict(), repository / "model.safetensors")
    loaded = torchvision_backbone("resnet18", "hf-hub:me/resnet", *given, "layer4")
    by_timm = timm_backbone("resnet18", "hf-hub:me/resnet", *given, pool="map")
    noise = torch.randn(1, 3, 48, 48)
    for each in (fresh, loaded, by_timm):
        each.eval()
    torch.testing.assert_close(loaded(noise), fresh(noise), rtol=0, atol=0)
    torch.testing.assert_close(by_timm(noise), fresh(noise))
    (repository / "model.safetensors").rename(repository / "other.bin")
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        torchvision_backbone("resnet18", "hf-hub:me/resnet", *given, "layer4")


def data_set(folder: Path, names: dict[str, list[int]], labels: bool = True) -> None:
    """Parquet files as Hugging Face writes them: struct images, class labels in the schema."""
    rng = np.random.default_rng(0)
    for file, classes in names.items():
        cells = []
        for _ in classes:
            stream = BytesIO()
            pixels = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(stream, "PNG")
            cells.append({"bytes": stream.getvalue(), "path": "../../evil.png"})
        features = {
            "image": {"_type": "Image"},
            "kind": {"_type": "ClassLabel", "names": list("abcdef")},
        }
        table = pa.table({"image": cells, "kind": classes, "other": ["x"] * len(classes)})
        if labels:
            said = json.dumps({"info": {"features": features}})
            table = table.replace_schema_metadata({"huggingface": said})
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, folder / file)


TWO = {
    "data/train-00000-of-00001.parquet": [3, 1, 3, -1],
    "data/test-00000-of-00001.parquet": [0, 1],
}


def test_a_data_set_in_a_folder(tmp_path: Path) -> None:
    data_set(tmp_path / "set", TWO)
    source = HubData(str(tmp_path / "set"), str(tmp_path / "cache"))
    source.prepare()
    records = source.records()
    named = [records.class_names[label] for label in records.labels]
    assert sorted(zip(named, records.splits.tolist(), strict=True)) == [
        ("a", "test"), ("b", "test"), ("b", "train"), ("d", "train"), ("d", "train"),
    ]  # fmt: skip
    first = parquet.read_table(tmp_path / "set/data/test-00000-of-00001.parquet")["image"][0]
    assert first.as_py()["bytes"] in {Path(p).read_bytes() for p in records.paths}
    assert not (tmp_path.parent / "evil.png").exists()


@pytest.mark.parametrize("revision", ["", "@refs-convert-parquet"])
def test_a_data_set_of_the_hub(
    revision: str, hub: type[FakeHub], cli: Cli, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    names = {"default/train/0000.parquet": [0, 0, 1, 1, 2, 2, 3, 3]}
    place = hub.folder / "datasets" / "me"
    data_set(place / f"set{revision}", names)
    (place / "set").mkdir(exist_ok=True)
    (place / "set" / "images.tar").touch()
    source = HubData("me/set", str(tmp_path / "copies"))
    source.prepare()
    assert len(source.records()) == 8
    assert source.records().class_names == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"label": "knd"}, "which column .* has the labels.*Did you mean kind"),
        ({"image": "other2"}, "data.source.image="),
        ({"subset": "x"}, "has the subsets"),
    ],
)
def test_what_is_wrong_with_a_data_set(settings: dict[str, str], said: str, tmp_path: Path) -> None:
    data_set(tmp_path / "set", TWO)
    with pytest.raises(InputError, match=said):
        HubData(str(tmp_path / "set"), str(tmp_path / "cache"), **settings).prepare()


def test_data_sets_without_what_is_needed(tmp_path: Path) -> None:
    data_set(tmp_path / "set", TWO, labels=False)
    with pytest.raises(InputError, match=r"which column .* has the labels"):
        HubData(str(tmp_path / "set"), str(tmp_path / "cache")).prepare()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no Parquet files"):
        HubData(str(tmp_path / "empty"), str(tmp_path / "cache")).prepare()
    (tmp_path / "empty" / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="can't read"):
        HubData(str(tmp_path / "empty"), str(tmp_path / "cache")).prepare()
