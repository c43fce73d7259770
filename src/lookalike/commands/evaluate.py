"""lookalike evaluate: score a checkpoint, on its own data set or on another."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lookalike.checkpoint import read_checkpoint, rebuild_loss
from lookalike.config import build, run_verb
from lookalike.errors import InputError
from lookalike.evaluation.callback import check_monitor, score
from lookalike.experiment import embed_test_images, open_data
from lookalike.losses.classifier import classifier_of
from lookalike.reports.run import print_counts, print_scores, write_metrics


def evaluate(config: DictConfig) -> float:
    """Test scores of a checkpoint; returns the monitored metric."""
    if config.checkpoint is None:
        raise InputError("give checkpoint=RUN/checkpoints/best.ckpt")
    checkpoint = read_checkpoint(config.checkpoint)
    trained = OmegaConf.create(checkpoint.config)
    if config.data:  # another data set, or another protocol: seen through the same test view
        trained.data = {**trained.data, "num_classes": None, **config.data}
    data = open_data(trained)
    print_counts(data.counts())
    plan = build(config.evaluation)
    classifier = classifier_of(rebuild_loss(checkpoint), checkpoint.class_names)
    check_monitor(plan, classifier, data.records, data.records.ids("test"))
    embeddings = embed_test_images(checkpoint, data, trained.trainer)
    measured = score(plan, embeddings, embeddings, data.records, classifier)
    scores = {f"test/{name}": value for name, value in measured.items()}
    file = Path(config.paths.run) / "metrics.json"
    write_metrics(file, scores, {"checkpoint": str(config.checkpoint), "counts": data.counts()})
    print_scores(scores, checkpoint.epochs, refit=False)
    print(file)
    return scores[f"test/{plan.monitor}"]


if __name__ == "__main__":
    run_verb("evaluate", evaluate)
