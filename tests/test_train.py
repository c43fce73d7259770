"""The main job, in process, on a tiny network: what it writes, how it chooses, what it refuses."""

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

import lookalike
from lookalike.errors import InputError
from lookalike.inference.checkpoint import Checkpoint, read_checkpoint
from lookalike.reports.saved import read_run
from lookalike.retrieval.embeddings import embed
from lookalike.training.experiment import Experiment, open_data

Cli = Callable[..., Any]


def run_folder(verb: str = "train") -> Path:
    (folder,) = Path("outputs", verb).iterdir()
    return folder


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def test_a_run_folder_holds_everything(cli: Cli, tiny: tuple[str, ...]) -> None:
    value = cli("train", *tiny, "trainer.max_epochs=3", "loss=softmax_triplet")
    folder = run_folder()
    written = metrics(folder)
    for part in ("epoch_0/val", "epoch_0/test", "val", "test"):
        for name in (
            "recall_at_1",
            "recall_at_8",
            "precision_at_1",
            "r_precision",
            "map_at_r",
            "map",
        ):
            assert 0 <= written[f"{part}/{name}"] <= 1
    assert written["val/queries"] == 12
    assert written["test/queries_without_positive"] == 0
    assert written["counts"] == {
        "train_images": 36, "val_images": 12, "test_images": 48,
        "train_classes": 6, "val_classes": 2, "test_classes": 8,
    }  # fmt: skip
    assert written["images_per_second"] > 0
    assert written["peak_memory_mebibytes"] > 100
    assert written["versions"]["torch"] == torch.__version__.split("+")[0]
    assert 1 <= written["epoch"] <= 3
    for file in (
        ".hydra/overrides.yaml",
        "train.log",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    ):
        assert (folder / file).is_file()

    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    curve = [float(row["val/map_at_r"]) for row in rows if row["val/map_at_r"]]
    assert len(curve) == 3
    assert max(curve) == pytest.approx(written["val/map_at_r"]) == pytest.approx(value)
    assert any(row["train/softmax"] for row in rows)
    assert any(row["train/triplet"] for row in rows)
    assert len((folder / "split.csv").read_text().splitlines()) == 97


def test_a_checkpoint_alone_embeds_images(
    cli: Cli, tiny: tuple[str, ...], class_folders: Path
) -> None:
    cli("train", *tiny)
    file = run_folder() / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    assert content["lookalike"]["config"]["loss"]["_target_"].endswith("MultiSimilarityLoss")
    embed = lookalike.load_embedder(file)
    paths = sorted(class_folders.glob("*/*.png"))[:5]
    vectors = embed(paths, batch_size=2)
    assert (vectors.shape, vectors.dtype) == ((5, 8), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    opened = [Image.open(path) for path in paths]
    np.testing.assert_allclose(embed(opened), vectors, atol=1e-6)
    assert embed([]).shape == (0, 8)


def test_whatever_holds_an_image_is_embedded(
    cli: Cli, tiny: tuple[str, ...], class_folders: Path, tmp_path: Path
) -> None:
    cli("train", *tiny)
    embed = lookalike.load_embedder(run_folder() / "checkpoints" / "best.ckpt")
    path = next(class_folders.glob("*/*.png"))
    pixels = np.asarray(Image.open(path).convert("RGB"))
    one = embed(str(path))
    assert one.shape == (8,)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    kinds = [path, path.read_bytes(), Image.open(path), pixels, pixels[:, ::-1][:, ::-1], tensor]
    for image in kinds:
        np.testing.assert_array_equal(embed(image), one)
        np.testing.assert_allclose(embed([image, image]), [one, one], atol=1e-6)
    large = tmp_path / "large.jpg"
    Image.open(path).convert("RGB").resize((400, 300)).save(large)
    np.testing.assert_array_equal(embed(large), embed(large.read_bytes()))
    for wrong, message in (
        (pixels.astype(np.float32), r"ndarray \(40, 48, 3\) float32"),
        (pixels[:, :, 0], "ndarray"),
        (tensor[None], "Tensor"),
        (tensor.float(), "float32"),
        (b"no image", "of 8 bytes"),
        ("nowhere.png", "nowhere.png"),
        (3, "int"),
    ):
        with pytest.raises(InputError, match=message):
            embed([wrong])  # type: ignore[list-item]


def test_evaluate_repeats_the_test_score(
    cli: Cli, tiny: tuple[str, ...], class_folders: Path
) -> None:
    cli("train", *tiny)
    trained = metrics(run_folder())
    checkpoint = f"checkpoint={run_folder() / 'checkpoints' / 'best.ckpt'}"
    cli("evaluate", checkpoint)
    again = metrics(run_folder("evaluate"))
    for name in ("recall_at_1", "map_at_r", "map"):
        assert again[f"test/{name}"] == pytest.approx(trained[f"test/{name}"])
    other = cli(
        "evaluate", checkpoint, "data=folder", f"data.root={class_folders}",
        "data.protocol=seen_classes", "evaluation.monitor=recall_at_1", "name=other",
    )  # fmt: skip
    assert 0 <= other <= 1


@pytest.mark.slow
def test_several_checkpoints_are_measured_as_one(
    cli: Cli, tiny: tuple[str, ...], capsys: Any
) -> None:
    for fold in (0, 1):
        cli("train", *tiny, f"data.fold={fold}", f"hydra.run.dir=fold{fold}")
    cli("train", *tiny, "data.protocol=seen_classes", "data.folds=2", "hydra.run.dir=others")
    files = [f"{name}/checkpoints/best.ckpt" for name in ("fold0", "fold1", "others")]
    together = cli("evaluate", f"checkpoint=[{files[0]},{files[1]}]")
    apart = [read_checkpoint(file) for file in files[:2]]
    data = open_data(OmegaConf.create(apart[0].config))
    cpu = torch.device("cpu")
    vectors = [embed(c.embedder(), data.test_dataloader(), cpu) for c in apart]
    cosine = vectors[0].vectors @ vectors[0].vectors.T + vectors[1].vectors @ vectors[1].vectors.T
    np.fill_diagonal(cosine, -np.inf)
    right = vectors[0].labels[cosine.argmax(1)] == vectors[0].labels
    assert metrics(run_folder("evaluate"))["test/recall_at_1"] == pytest.approx(right.mean())
    assert 0 <= together <= 1
    with pytest.raises(SystemExit):
        cli("evaluate", f"checkpoint=[{files[0]},{files[2]}]")
    assert "different images" in capsys.readouterr().err


def test_refit_trains_on_the_validation_classes_too(cli: Cli, tiny: tuple[str, ...]) -> None:
    cli(
        "train", *tiny, "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=2",
        "evaluation.refit=true", "loss=norm_softmax",
    )  # fmt: skip
    written = metrics(run_folder())
    assert written["refit"]
    final = read_checkpoint(run_folder() / "refit" / "checkpoints" / "final.ckpt")
    assert final.state["loss.W"].shape == (8, 8)  # 6 training classes and 2 of validation
    assert final.epochs == written["epoch"]
    assert final.config["trainer"]["max_epochs"] == written["epoch"]
    assert "val/map_at_r" in written
    assert "test/map_at_r" in written


def test_a_refit_after_early_stopping(cli: Cli, tiny: tuple[str, ...]) -> None:
    stopping = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1")
    cli("train", *tiny, *stopping, "trainer.max_epochs=9", "learning_rate.backbone=0",
        "learning_rate.head=0", "evaluation.refit=true", "hydra.run.dir=run")  # fmt: skip
    written, first = (
        json.loads(Path("run", name).read_text()) for name in ("metrics.json", "first_fit.json")
    )
    assert written["refit"]
    assert written["epoch"] == first["epoch"] == 1
    assert first["val/map_at_r"] == written["val/map_at_r"]
    assert Path(first["checkpoint"]).is_file()


def test_what_the_first_fit_gave_is_kept_when_the_refit_fails(
    cli: Cli, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("lookalike.training.run.refitting", fail)
    with pytest.raises(SystemExit):
        cli("train", *tiny, "evaluation.refit=true", "hydra.run.dir=run")
    assert "val/map_at_r" in json.loads(Path("run", "first_fit.json").read_text())
    assert Path("run", "checkpoints", "best.ckpt").is_file()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(cli: Cli, tiny: tuple[str, ...]) -> None:
    values = [
        cli("train", *tiny, "trainer.max_epochs=2", f"seed={seed}", f"hydra.run.dir=run{number}")
        for number, seed in enumerate((0, 0, 1))
    ]
    first, second, other = (
        read_checkpoint(f"run{n}/checkpoints/last.ckpt").state for n in range(3)
    )
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=0)
    assert not torch.equal(
        first["embedder.head.linear.weight"], other["embedder.head.linear.weight"]
    )
    assert math.isclose(values[0], values[1])
    assert Path("run0/split.csv").read_text() == Path("run2/split.csv").read_text()


@pytest.mark.slow
def test_a_resumed_run_goes_on_where_it_was_cut_off(cli: Cli, tiny: tuple[str, ...]) -> None:
    longer = (*tiny, "learner.planned_epochs=4")
    cli("train", *longer, "trainer.max_epochs=4", "hydra.run.dir=whole")
    cli("train", *longer, "trainer.max_epochs=2", "hydra.run.dir=first")
    cli(
        "train", *longer, "trainer.max_epochs=4", "hydra.run.dir=second",
        "resume=first/checkpoints/last.ckpt",
    )  # fmt: skip
    whole, resumed = (
        torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True) for run in ("whole", "second")
    )
    assert resumed["lookalike"]["epochs"] == whole["lookalike"]["epochs"] == 4
    assert resumed["global_step"] == whole["global_step"]
    rates = [
        [group["lr"] for group in content["optimizer_states"][0]["param_groups"]]
        for content in (whole, resumed)
    ]
    assert rates[0] == pytest.approx(rates[1])
    best = [read_checkpoint(f"{run}/checkpoints/best.ckpt").scores for run in ("first", "second")]
    assert metrics(Path("second"))["val/map_at_r"] == pytest.approx(
        max(scores["val/map_at_r"] for scores in best)
    )


def test_a_thaw_that_never_comes_is_told(cli: Cli, tiny: tuple[str, ...]) -> None:
    thaw = ("freeze=thaw", "freeze.thaw.from_layer=0", "freeze.thaw.epoch=2")
    cli("train", *tiny, *thaw, "trainer.max_epochs=2", "hydra.run.dir=run")
    told = "Nothing thaws: freeze.thaw.epoch=2, and training ends after epoch 2"
    assert told in Path("run/train.log").read_text()


@pytest.mark.slow
def test_what_thaws_learns_from_its_epoch_on_resumed_or_not(
    cli: Cli, tiny: tuple[str, ...]
) -> None:
    thaw = (*tiny, "freeze=thaw", "freeze.thaw.from_layer=0", "freeze.thaw.epoch=2",
            "learner.planned_epochs=4", "learning_rate.thawed=1e-3")  # fmt: skip
    cli("train", *thaw, "trainer.max_epochs=4", "hydra.run.dir=whole")
    for epochs in (1, 3):  # cut off before and after
        cli("train", *thaw, f"trainer.max_epochs={epochs}", f"hydra.run.dir=first{epochs}")
        cli("train", *thaw, "trainer.max_epochs=4", f"hydra.run.dir=second{epochs}",
            f"resume=first{epochs}/checkpoints/last.ckpt")  # fmt: skip
    runs = ("first1", "first3", "whole", "second1", "second3")
    before, after, *full = (
        torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True) for run in runs
    )
    weight = "embedder.backbone.network.weight"
    assert not torch.equal(before["state_dict"][weight], after["state_dict"][weight])
    names = [group["name"] for group in before["optimizer_states"][0]["param_groups"]]
    assert names == ["head", "thawed"]
    for content in full:
        groups = content["optimizer_states"][0]["param_groups"]
        assert [group["name"] for group in groups] == names
        steps = {int(state["step"]) for state in content["optimizer_states"][0]["state"].values()}
        assert len(steps) == 2  # what thawed has made half as many
        assert max(steps) == 2 * min(steps)


@pytest.mark.parametrize("freeze", ["freeze=all", "freeze=batch_norm"])
def test_frozen_batch_norm_keeps_still_through_a_whole_fit(
    freeze: str, compose: Callable[..., DictConfig], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    network = ("backbone=resnet18", "backbone.weights=null", "backbone.image_size=32")
    experiment = Experiment(compose("train", *tiny, *network, freeze), tmp_path / "run")
    backbone = experiment.learner.embedder.backbone
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    weights = [parameter.clone() for parameter in backbone.parameters()]
    experiment.fit()
    torch.testing.assert_close(dict(backbone.named_buffers()), before, rtol=0, atol=0)
    learned = any(
        not torch.equal(p, w) for p, w in zip(backbone.parameters(), weights, strict=True)
    )
    assert learned == (freeze == "freeze=batch_norm")


def test_a_finished_run_is_never_written_over(cli: Cli, tiny: tuple[str, ...], capsys: Any) -> None:
    cli("train", *tiny, "hydra.run.dir=run")
    before = (Path("run") / "metrics.json").read_text()
    with pytest.raises(SystemExit):
        cli("train", *tiny, "hydra.run.dir=run")
    assert "holds a finished run, which is kept" in capsys.readouterr().err
    assert (Path("run") / "metrics.json").read_text() == before


def test_early_stopping_and_own_configs(cli: Cli, tiny: tuple[str, ...]) -> None:
    cli("train", *tiny, "callbacks=early_stopping", "callbacks.early_stopping.patience=1",
        "trainer.max_epochs=30", "learning_rate.backbone=0", "learning_rate.head=0")  # fmt: skip
    assert metrics(run_folder())["epoch"] == 1
    rows = list(csv.DictReader((run_folder() / "metrics.csv").read_text().splitlines()))
    assert sum(bool(row["val/map_at_r"]) for row in rows) == 2


def test_head_starts_from_principal_components(cli: Cli, tiny: tuple[str, ...]) -> None:
    cli("train", *tiny, "head=principal_components", "learning_rate.head=0",
        "learning_rate.backbone=0")  # fmt: skip
    state = read_checkpoint(run_folder() / "checkpoints" / "best.ckpt").state
    weight = state["embedder.head.linear.weight"]
    products = weight @ weight.T  # directions of a covariance matrix
    torch.testing.assert_close(products, products.diagonal().diag(), atol=1e-4, rtol=1e-4)


def test_training_lowers_the_loss(cli: Cli, tiny: tuple[str, ...]) -> None:
    cli("train", *tiny, "trainer.max_epochs=10", "trainer.log_every_n_steps=1", "loss=norm_softmax",
        "learning_rate.backbone=0.01", "learning_rate.head=0.01")  # fmt: skip
    rows = csv.DictReader((run_folder() / "metrics.csv").read_text().splitlines())
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.parametrize(
    "overrides", [["freeze=all", "head=identity"], ["trainer.max_epochs=0", "report=answers"]]
)
def test_a_network_that_does_not_learn_is_measured(
    cli: Cli, tiny: tuple[str, ...], overrides: list[str], class_folders: Path
) -> None:
    value = cli("train", *tiny, *overrides)
    folder = run_folder()
    written = metrics(folder)
    assert written["epoch"] == 0
    assert value == written["val/map_at_r"] > 0
    assert written["test/recall_at_1"] > 0
    assert "epoch_0/test/recall_at_1" not in written
    assert not read_run(folder).trained
    embedder = lookalike.load_embedder(folder / "checkpoints" / "start.ckpt")
    assert embedder(next(class_folders.glob("*/*.png"))).shape
    assert (folder / "answers.png").is_file() == ("report=answers" in overrides)


@pytest.mark.parametrize("worse", [True, False])
def test_a_network_that_training_made_worse(
    cli: Cli, tiny: tuple[str, ...], worse: bool, monkeypatch: Any, capsys: Any
) -> None:
    """It is said, and the network before training is kept."""
    fit = Experiment.fit

    def changed(self: Experiment, resume: str | None = None) -> Checkpoint:
        best = fit(self, resume)
        monitored = self.plan.monitored
        before = read_checkpoint(self.start).scores[f"epoch_0/{monitored}"]
        value = before - 0.25 if worse else before
        return replace(best, scores={**best.scores, monitored: value})

    monkeypatch.setattr(Experiment, "fit", changed)
    cli("train", *tiny)
    folder = run_folder()
    start = folder / "checkpoints" / "start.ckpt"
    assert start.is_file() == worse
    said = capsys.readouterr().out
    assert ("Training made it worse: val MAP@R was 0.9800 before, and is 0.7300" in said) == worse
    if worse:
        kept = read_checkpoint(start)
        assert kept.epochs == 0
        assert kept.scores["epoch_0/val/map_at_r"] == metrics(folder)["epoch_0/val/map_at_r"]
        assert "freeze=below" in said


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss=triplett"], "Did you mean triplet"),
        (["trainer.max_epoch=3"], "Did you mean trainer.max_epochs"),
        (["lss=triplet"], "Did you mean loss"),
        (
            ["loss=triplet", "miner.type_of_triplets=hard"],
            "Did you mean data.miner.type_of_triplets",
        ),
        (["optimizer.lr=0.1"], "Set learning_rate.backbone, learning_rate.head"),
        (["batch_size=8"], "Set data.batch_size"),
        (["sweep=seeds"], "add -m"),
        (["recipe=drwn"], "Did you mean drawn"),
        (["+loss.no_such_argument=1"], "no_such_argument"),
        (["data.root=nowhere"], "no folder at"),
        (["data.batch_size=9"], "Set data.batch_size=8"),
        (["+data.sampler.images_per_clas=1"], "Did you mean images_per_class"),
        (
            ["data.num_classes=10"],
            "Found 6 training classes, the config says 10. Set data.num_classes=6",
        ),
        (["data.protocol=zeroshot"], "Did you mean zero_shot"),
        (["evaluation.monitor=recall_at_3"], "Did you mean recall_at"),
        (["head=principal_components", "embedding_size=17"], "Set embedding_size=16 or less"),
        (["freeze=thaw", "freeze.thaw.from_layer=1"], "Set it to 0...0"),
        (["freeze=thaw", "freeze.thaw.from_layer=0", "data.cache=features"], "freeze=all"),
        (["data.classes=[class01,clas02]"], "Did you mean class02"),
        (["data.holdout=false"], "evaluation.refit=true"),
        (["trainer.max_epochs=null"], "trainer.max_epochs=null: need a whole number"),
        (["trainer.max_epochs=two"], "need a whole number from 0"),
        (["trainer.max_epochs=-1"], "need a whole number from 0"),
        (["resume=nowhere.ckpt"], "no checkpoint at"),
    ],
)
def test_what_does_not_fit_is_explained(
    cli: Cli, tiny: tuple[str, ...], capsys: Any, overrides: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli("train", *tiny, *overrides)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_checkpoints_that_are_not_ours(cli: Cli, tmp_path: Path, capsys: Any) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    for name, message in (
        ("other.ckpt", "was not saved by lookalike"),
        ("text.ckpt", "can't be read as a checkpoint"),
        ("missing.ckpt", "no checkpoint at"),
    ):
        with pytest.raises(SystemExit):
            cli("evaluate", f"checkpoint={tmp_path / name}")
        assert message in capsys.readouterr().err


def test_an_unreadable_image_stops_training_with_its_name(
    cli: Cli, tiny: tuple[str, ...], class_folders: Path, tmp_path: Path, capsys: Any
) -> None:
    import shutil

    root = tmp_path / "photos"
    shutil.copytree(class_folders, root)
    for name in ("class03/2.png", "class09/1.png"):
        (root / name).write_bytes((root / name).read_bytes()[:100])
    with pytest.raises(SystemExit):
        cli("prepare", "data=folder", f"data.root={root}")
    error = capsys.readouterr().err
    assert "2 of 96 images can't be read" in error
    assert "class03/2.png" in error
    assert "class09/1.png" in error
    with pytest.raises(SystemExit):
        cli("train", *tiny, f"data.root={root}", "data.num_workers=1")
    error = capsys.readouterr().err
    assert "can't read the image" in error
    assert "Traceback" not in error


def test_prepare_counts(cli: Cli, class_folders: Path) -> None:
    assert cli("prepare", "data=folder", f"data.root={class_folders}") == 96
