"""What loggers are told about a run when it starts."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from lookalike.evaluation.plan import Evaluation
from lookalike.provenance import git_commit, versions
from lookalike.reports.loggers import for_tables
from lookalike.training.identity import REPEATED, WITHOUT_EFFECT


class DescribeRun(Callback):
    """Tells every logger the resolved configuration, and W&B which value of a curve is its best.

    Args:
        config: resolved, as plain data.
        plan: has the metrics and their directions.
    """

    def __init__(self, config: dict[str, Any], plan: Evaluation) -> None:
        self.config = config
        self.plan = plan

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        without = {key.split(".")[0] for key in (*WITHOUT_EFFECT, *REPEATED)}
        short = for_tables({k: v for k, v in self.config.items() if k not in without})
        for logger in trainer.loggers:
            shown = isinstance(logger, WandbLogger | TensorBoardLogger)
            logger.log_hyperparams(short if shown else self.config)
            if isinstance(logger, WandbLogger) and trainer.is_global_zero:
                logger.log_hyperparams({"versions": versions(), "git_commit": git_commit()})
                for name, mode in self.plan.directions().items():
                    logger.experiment.define_metric(
                        f"val/{name}", step_metric="epoch", summary=mode
                    )
