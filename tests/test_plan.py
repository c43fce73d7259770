"""The plan of an evaluation: what it measures and selects by, and what it refuses."""

import re
from typing import Any

import pytest
import torch

from lookalike.device import CPU
from lookalike.errors import InputError
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.recognition import Recognition

ALWAYS = ["precision_at_1", "r_precision", "map_at_r"]
OF_CLASSIFIER = ["accuracy", "loss"]


@pytest.mark.parametrize(
    ("asked", "measured"),
    [
        ({}, ["recall_at_1", "recall_at_2", "recall_at_4", "recall_at_8", *ALWAYS, "map"]),
        ({"k": [3], "whole_ranking": False}, ["recall_at_3", *ALWAYS]),
        (
            {"k": [1], "map_at": [1, 10], "minp": True},
            ["recall_at_1", *ALWAYS, "map_at_1", "map_at_10", "map", "minp"],
        ),
        (
            {"k": [5], "trapezoid": True},
            ["recall_at_5", *ALWAYS, "map", "map_trapezoid", "mean_precision_at_5"],
        ),
        (
            {"k": [1], "whole_ranking": False, "clustering": True, "recognition": Recognition()},
            ["recall_at_1", *ALWAYS, "nmi", "ami", "gap", "gap_without_distractors",
             "recognition_accuracy"],
        ),
    ],
)  # fmt: skip
def test_all_metrics_but_the_loss_are_best_at_their_highest(
    asked: dict[str, Any], measured: list[str]
) -> None:
    plan = Evaluation(**asked)
    assert plan.directions() == {
        **dict.fromkeys([*measured, "accuracy"], "max"),
        "loss": "min",
    }
    for name in (*measured, *OF_CLASSIFIER):
        by = Evaluation(**asked, monitor=name)
        assert by.monitored == f"val/{name}"
        assert by.mode == ("min" if name == "loss" else "max")
        assert by.monitors_classifier == (name in OF_CLASSIFIER)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"k": []}, "evaluation.k=[]: need one or more numbers from 1 on"),
        ({"k": (2, 0)}, "evaluation.k=[2, 0]: need one or more numbers from 1 on"),
        ({"map_at": (0, 5)}, "evaluation.map_at=[0, 5]: need numbers from 1 on"),
        (
            {"minp": True, "whole_ranking": False},
            "evaluation.minp=true needs evaluation.whole_ranking=true",
        ),
        (
            {"trapezoid": True, "whole_ranking": False},
            "evaluation.trapezoid=true needs evaluation.whole_ranking=true",
        ),
        (
            {"k": [1], "monitor": "recall_at_2"},
            "evaluation.monitor=recall_at_2 is not measured; there are recall_at_1, "
            "precision_at_1, r_precision, map_at_r, map, accuracy, loss. Did you mean recall_at_1",
        ),
        ({"monitor": "nmi"}, "evaluation.monitor=nmi is not measured; there are recall_at_1, "),
        ({"engine": "fais"}, "evaluation.engine=fais is unknown; there are auto, faiss, bounded"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        Evaluation(**asked)


def test_the_least_that_can_be_asked_for() -> None:
    assert Evaluation(k=[1], map_at=[1], whole_ranking=False).monitor == "map_at_r"


def test_engines_are_those_asked_for_on_the_device() -> None:
    device = torch.device("cuda", 1)
    found = Evaluation(engine="bounded").engines(device)
    assert (found.name, found.device) == ("bounded", device)
    assert Evaluation().engines().device == CPU
