"""The one place that knows the loggers: what they are told besides Lightning's metrics."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import WandbLogger

from lookalike.evaluation.plan import Evaluation


class DescribeRun(Callback):
    """Gives every logger the resolved configuration, and W&B the best value of each curve."""

    def __init__(self, config: dict[str, Any], plan: Evaluation) -> None:
        self.config = config
        self.plan = plan

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for logger in trainer.loggers:
            logger.log_hyperparams(self.config)
            if isinstance(logger, WandbLogger) and trainer.is_global_zero:
                for name, mode in self.plan.directions().items():
                    logger.experiment.define_metric(f"val/{name}", summary=mode)
