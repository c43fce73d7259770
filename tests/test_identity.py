"""What makes two runs the same: the scope of the loss counts where several processes train."""

from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import OmegaConf

from lookalike.training.identity import (
    differences,
    fingerprint,
    resume_fingerprint,
    start_fingerprint,
    without_effect,
)


@pytest.mark.parametrize("digest", [fingerprint, resume_fingerprint])
def test_the_scope_of_the_loss_counts_with_several_processes(
    compose: Any, digest: Callable[..., str]
) -> None:
    def of(*overrides: str) -> str:
        return digest(compose("train", "data=drawn", *overrides))

    assert of("loss_scope=local") == of("loss_scope=global")
    for several in ("trainer=ddp", "+trainer.num_nodes=2"):
        assert of(several, "loss_scope=local") != of(several, "loss_scope=global")


def test_a_start_has_no_loss(compose: Any) -> None:
    local, whole = (
        start_fingerprint(compose("train", "trainer=ddp", f"loss_scope={scope}"))
        for scope in ("local", "global")
    )
    assert local == whole


def test_a_run_from_before_the_key_goes_on(compose: Any) -> None:
    config = compose("train")
    saved: Any = OmegaConf.to_container(compose("train"))
    del saved["loss_scope"]
    assert differences(config, saved, without_effect(config)) == {}
    several = compose("train", "trainer=ddp")
    assert "loss_scope" in differences(several, saved, without_effect(several))
