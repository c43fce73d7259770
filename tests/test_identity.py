"""What makes two runs the same: the scope of the loss counts where several processes train."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from lookalike.training.identity import (
    differences,
    fingerprint,
    resume_fingerprint,
    start_fingerprint,
    without_effect,
)


def with_scope(config: DictConfig, scope: str, devices: int = 1) -> DictConfig:
    """The same configuration with another scope."""
    changed = config.copy()
    changed.loss_scope, changed.trainer.devices = scope, devices
    return changed


def test_the_scope_of_the_loss_counts_with_several_processes(compose: Any) -> None:
    config = compose("train", "data=drawn")
    for digest in (fingerprint, resume_fingerprint):
        alone = {digest(with_scope(config, scope)) for scope in ("local", "global")}
        several = {digest(with_scope(config, scope, 2)) for scope in ("local", "global")}
        assert (len(alone), len(several)) == (1, 2)
    starts = {start_fingerprint(with_scope(config, scope, 2)) for scope in ("local", "global")}
    assert len(starts) == 1  # a start has no loss


def test_a_run_from_before_there_were_chunks_goes_on_without_them(compose: Any) -> None:
    config = compose("train", "data=drawn")
    saved: Any = OmegaConf.to_container(config)
    del saved["chunk_size"]
    assert differences(config, saved, without_effect(config)) == {}
    config.chunk_size = 64
    assert differences(config, saved, ()) == {"chunk_size": (64, "(not set)")}
    assert start_fingerprint(config) == start_fingerprint(compose("train", "data=drawn"))


def test_a_run_from_before_there_was_a_scope_goes_on(compose: Any) -> None:
    config = compose("train", "data=drawn")
    saved: Any = OmegaConf.to_container(config)
    del saved["loss_scope"]
    assert differences(config, saved, without_effect(config)) == {}
    several = with_scope(config, "global", 2)
    assert "loss_scope" in differences(several, saved, without_effect(several))


def test_what_is_done_in_and_after_training_is_no_part_of_the_start(compose: Any) -> None:
    plain = compose("train", "data=drawn")
    mixed = compose("train", "data=drawn", "ensemble=wise_ft")
    held = compose("train", "data=drawn", "penalty=l2_sp")
    assert len({start_fingerprint(each) for each in (plain, mixed, held)}) == 1
    assert len({fingerprint(each) for each in (plain, mixed, held)}) == 3
    assert resume_fingerprint(plain) == resume_fingerprint(mixed) != resume_fingerprint(held)
