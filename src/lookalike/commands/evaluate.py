"""lookalike evaluate: score a checkpoint, or several as one, on their own data set or another."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lookalike.checkpoint import Checkpoint, read_checkpoint, rebuild_loss
from lookalike.config import as_list, build, run_verb
from lookalike.data.datamodule import RetrievalData
from lookalike.errors import InputError
from lookalike.evaluation.callback import check_monitor, score
from lookalike.experiment import embed_test_images, open_data
from lookalike.losses.classifier import EmbeddingClassifier, classifier_of
from lookalike.reports.run import print_counts, print_scores, write_metrics
from lookalike.retrieval.embeddings import concatenated


def evaluate(config: DictConfig) -> float:
    """Test scores of a checkpoint, or of several as one; returns the monitored metric."""
    files = as_list(config.checkpoint)
    if not files:
        raise InputError("give checkpoint=RUN/checkpoints/best.ckpt, or a list of them")
    checkpoints = [read_checkpoint(file) for file in files]
    seen = [_seen_by(checkpoint, config) for checkpoint in checkpoints]
    data, _ = seen[0]
    print_counts(data.counts())
    plan = build(config.evaluation)
    classifier = _classifier(checkpoints)
    check_monitor(plan, classifier, data.records, data.records.ids("test"))
    _check_same_images(seen, files)
    embeddings = concatenated(
        [
            embed_test_images(checkpoint, own, trainer)
            for checkpoint, (own, trainer) in zip(checkpoints, seen, strict=True)
        ]
    )
    measured = score(plan, embeddings, embeddings, data.records, classifier)
    scores = {f"test/{name}": value for name, value in measured.items()}
    file = Path(config.paths.run) / "metrics.json"
    names = [str(each) for each in files]
    facts = {
        "checkpoint": names[0] if len(names) == 1 else names,
        "evaluation": OmegaConf.to_container(config.evaluation, resolve=True),
        "counts": data.counts(),
    }
    write_metrics(file, scores, facts)
    print_scores(scores, max(checkpoint.epochs for checkpoint in checkpoints), refit=False)
    print(file)
    return scores[f"test/{plan.monitor}"]


def _seen_by(checkpoint: Checkpoint, config: DictConfig) -> tuple[RetrievalData, DictConfig]:
    """The data in a checkpoint's own test view, and its trainer's configuration."""
    trained = OmegaConf.create(checkpoint.config)
    if config.data:  # another data set, or another protocol: seen through the same test view
        trained.data = {**trained.data, "num_classes": None, **config.data}
    return open_data(trained), trained.trainer


def _classifier(checkpoints: list[Checkpoint]) -> EmbeddingClassifier | None:
    """That of a single checkpoint; several have none for what they see together."""
    if len(checkpoints) > 1:
        return None
    (only,) = checkpoints
    return classifier_of(rebuild_loss(only), only.class_names)


def _check_same_images(seen: list[tuple[RetrievalData, DictConfig]], files: list[str]) -> None:
    first, *others = [data.records.paths[data.records.ids("test")].tolist() for data, _ in seen]
    for file, paths in zip(files[1:], others, strict=True):
        if paths != first:
            raise InputError(
                f"{files[0]} and {file} were tested on different images, so they can't be "
                "measured as one. Give checkpoints of the same data, or data=<set>."
            )


if __name__ == "__main__":
    run_verb("evaluate", evaluate)
