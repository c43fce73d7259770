"""Classifiers: what a loss learns to name, how it is measured, and the verb `classify`."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from pytorch_metric_learning.losses import ArcFaceLoss, NormalizedSoftmaxLoss, TripletMarginLoss
from torch.nn.functional import cross_entropy

from lookalike.data.decoding import read_image
from lookalike.errors import InputError
from lookalike.inference.classifier import (
    Classifier,
    check_same_classes,
    classify,
    load_classifier,
    with_unique_names,
)
from lookalike.inference.imagenet import imagenet_classifier
from lookalike.inference.images import find_records
from lookalike.losses.classifier import logits_of
from lookalike.losses.softmax import SoftmaxLoss
from lookalike.losses.weighted_sum import WeightedSum

Cli = Callable[..., Any]
SEEN = ("data.protocol=seen_classes", "loss=softmax", "sampler=uniform", "miner=none")


@pytest.fixture
def seen(tiny: tuple[str, ...]) -> tuple[str, ...]:
    """`train` on classes that are tested too, with a classifier."""
    kept = [o for o in tiny if "images_per_class" not in o]
    return (*kept, *SEEN, "evaluation.before_training=false", "data.folds=2")


def test_only_losses_with_a_classifier_have_logits() -> None:
    softmax = SoftmaxLoss(3, 4)
    weighted = WeightedSum({"triplet": TripletMarginLoss(), "softmax": softmax},
                           {"triplet": 1.0, "softmax": 1.0})  # fmt: skip
    embeddings = torch.nn.functional.normalize(torch.randn(5, 4))
    torch.testing.assert_close(logits_of(weighted)(embeddings), softmax.logits(embeddings))
    assert logits_of(TripletMarginLoss()) is None
    assert logits_of(WeightedSum({"triplet": TripletMarginLoss()}, {"triplet": 1.0})) is None
    labels = torch.tensor([0, 1, 2, 0, 1])
    for loss in (softmax, NormalizedSoftmaxLoss(3, 4), ArcFaceLoss(3, 4, margin=0, scale=64)):
        logits = logits_of(loss)(embeddings)  # without a margin the loss is their cross-entropy
        torch.testing.assert_close(
            cross_entropy(logits, labels), loss(embeddings, labels), atol=1e-4, rtol=1e-4
        )


@pytest.mark.slow
def test_training_is_chosen_by_the_classifier_and_evaluate_repeats_it(
    cli: Cli, seen: tuple[str, ...]
) -> None:
    value = cli("train", *seen, "evaluation.monitor=loss", "trainer.max_epochs=3",
                "report=[curves,confusion]", "hydra.run.dir=run")  # fmt: skip
    written = json.loads(Path("run/metrics.json").read_text())
    rows = list(csv.DictReader(Path("run/metrics.csv").read_text().splitlines()))
    curve = [float(row["val/loss"]) for row in rows if row["val/loss"]]
    assert value == pytest.approx(written["val/loss"]) == pytest.approx(min(curve))
    table = list(csv.reader(Path("run/confusion.csv").read_text().splitlines()))
    counts = np.array([row[1:] for row in table[1:]], dtype=int)
    assert counts.sum() == written["counts"]["test_images"]
    assert counts.trace() / counts.sum() == pytest.approx(written["test/accuracy"])
    assert read_image("run/confusion.png").width > 100
    cli("evaluate", "checkpoint=run/checkpoints/best.ckpt", "hydra.run.dir=again")
    again = json.loads(Path("again/metrics.json").read_text())
    for name in ("accuracy", "loss", "recall_within_class", "map_at_r"):
        assert again[f"test/{name}"] == pytest.approx(written[f"test/{name}"], abs=1e-5)


@pytest.mark.parametrize("change", ["data.protocol=zero_shot", "loss=triplet"])
def test_a_monitor_that_can_not_be_measured_is_refused(
    cli: Cli, seen: tuple[str, ...], change: str, capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        cli("train", *seen, "evaluation.monitor=accuracy", change)
    assert "needs a loss that has one" in capsys.readouterr().err.replace("\n", " ")


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def trained(cli: Cli, seen: tuple[str, ...], once: Path) -> str:
    """A checkpoint in the folder of the test; it is trained once."""
    if not once.exists():
        cli("train", *seen, f"hydra.run.dir={once}")
    shutil.copytree(once, "run")
    return "run/checkpoints/best.ckpt"


def test_classify_with_a_checkpoint_and_a_vote(
    cli: Cli, seen: tuple[str, ...], trained: str, class_folders: Path
) -> None:
    images = class_folders / "class03"
    alone = cli("classify", f"images={images}", f"checkpoint={trained}", "num_workers=0",
                "hydra.run.dir=alone", "top=2")  # fmt: skip
    classifier = load_classifier(trained)
    records = find_records([str(images)])
    probabilities = classify(classifier, records, torch.device("cpu"), batch_size=4).probabilities
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert alone == [classifier.class_names[label] for label in probabilities.argmax(1)]
    rows = list(csv.DictReader(Path("alone/predictions.csv").read_text().splitlines()))
    assert len(rows) == 6 * 2
    assert float(rows[0]["probability"]) == pytest.approx(probabilities[0].max(), abs=1e-5)
    assert read_image("alone/predictions.png").width > 300
    # three times the same model: the vote is the model's
    voted = cli("classify", f"images={images}", f"checkpoint=[{trained},{trained},{trained}]",
                "num_workers=0", "hydra.run.dir=voted")  # fmt: skip
    assert voted == alone
    rows = list(csv.DictReader(Path("voted/predictions.csv").read_text().splitlines()))
    assert {row["agreement"] for row in rows if row["model"] == "vote"} == {"1.0000"}
    assert len({row["model"] for row in rows}) == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "give images="),
        (["images=nowhere"], "there is no file or folder nowhere"),
        (["images=ru"], "Did you mean run?"),
        (["images=run"], "no images at run"),
        (["images=broken/bad.png"], "1 of 1 images can't be read"),
        (["images=broken/good.png", "top=0"], "top=0"),
        (["images=boxes.csv"], "reaches outside of"),
    ],
)
def test_what_can_not_be_classified_is_said_before_the_work(
    cli: Cli, trained: str, overrides: list[str], message: str, capsys: Any
) -> None:
    Path("broken").mkdir()
    Image.new("RGB", (9, 9)).save("broken/good.png")
    Path("broken/bad.png").write_bytes(Path("broken/good.png").read_bytes()[:40])
    Path("boxes.csv").write_text("path,label,left,top,right,bottom\nbroken/good.png,a,0,0,10,9\n")
    with pytest.raises(SystemExit):
        cli("classify", f"checkpoint={trained}", "num_workers=0", *overrides)
    assert message in capsys.readouterr().err


def test_a_checkpoint_without_a_classifier_is_refused(
    cli: Cli, tiny: tuple[str, ...], class_folders: Path, capsys: Any
) -> None:
    cli("train", *tiny, "loss=triplet", "hydra.run.dir=run")
    with pytest.raises(SystemExit):
        cli("classify", f"images={class_folders}", "checkpoint=run/checkpoints/best.ckpt")
    assert "TripletMarginLoss, which has no classifier" in capsys.readouterr().err


def classifier(name: str, *classes: str) -> Classifier:
    return Classifier(name, torch.nn.Identity(), classes, None)


def test_models_of_other_classes_do_not_vote() -> None:
    check_same_classes([classifier("one", "bed", "sofa"), classifier("two", "bed", "sofa")])
    with pytest.raises(InputError, match=r"one and two can't vote: one knows 2 \(bed, sofa\)"):
        check_same_classes([classifier("one", "bed", "sofa"), classifier("two", "sofa", "bed")])
    names = [
        each.name for each in with_unique_names([classifier("x"), classifier("y"), classifier("x")])
    ]
    assert names == ["x (1)", "y", "x (3)"]


def test_imagenet_models_see_what_torchvision_s_own_preset_sees(
    class_folders: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    full = torchvision.models.mobilenet_v2(weights=None).eval()
    torch.save(full.state_dict(), tmp_path / "weights.pth")
    ours = imagenet_classifier("mobilenet_v2", str(tmp_path / "weights.pth"))
    assert len(ours.class_names) == 1000
    assert ours.class_names[151] == "Chihuahua"
    records = find_records([str(class_folders / "class00" / "0.png")])
    preset = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode():
        expected = full(preset(Image.open(records.paths[0]).convert("RGB"))[None]).softmax(1)
    found = classify(ours, records, torch.device("cpu")).probabilities
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-4)


def test_imagenet_weights_without_a_classifier_are_refused(tmp_path: Path) -> None:
    state = torchvision.models.mobilenet_v2(weights=None).state_dict()
    bare = {key: value for key, value in state.items() if not key.startswith("classifier")}
    torch.save(bare, tmp_path / "bare.pth")
    with pytest.raises(InputError, match=r"missing \(classifier"):
        imagenet_classifier("mobilenet_v2", str(tmp_path / "bare.pth"))
    with pytest.raises(InputError, match="IMAGENET1K_FEATURES has no classifier"):
        imagenet_classifier("vgg16", "IMAGENET1K_FEATURES")


def test_images_from_folders_globs_files_and_lists_come_once(class_folders: Path) -> None:
    folder = class_folders / "class00"
    every = sorted(str(path) for path in folder.glob("*.png"))
    assert find_records([str(folder)]).paths.tolist() == every
    assert find_records([str(folder / "*.png")]).paths.tolist() == every
    both = find_records([every[2], str(folder)])
    assert both.paths.tolist() == [every[2], *(path for path in every if path != every[2])]
    assert both.class_names == ("",)


@pytest.mark.real
def test_imagenet_names_real_dogs(real_data: Path) -> None:
    weights = real_data.parent / "weights" / "mobilenet_v2_ios_dequant_torchvision_keys.pth"
    if not weights.is_file():
        pytest.skip(f"no weights at {weights}")
    pugs = sorted((real_data / "stanford_dogs" / "Images" / "n02110958-pug").glob("*.jpg"))[:8]
    model = imagenet_classifier("mobilenet_v2", str(weights))
    records = find_records([str(p) for p in pugs])
    probabilities = classify(model, records, torch.device("cpu")).probabilities
    named = [model.class_names[label] for label in probabilities.argmax(1)]
    assert named.count("pug") >= 6


def test_a_table_of_images_needs_no_labels(
    cli: Callable[..., Any], trained: str, class_folders: Path, tmp_path: Path
) -> None:
    images = sorted(class_folders.glob("class00/*.png"))[:3]
    table = tmp_path / "photos.csv"
    table.write_text("path\n" + "".join(f"{image}\n" for image in images))
    assert len(cli("classify", f"images={table}", f"checkpoint={trained}", "num_workers=0")) == 3
