"""The bar of a training on the terminal."""

from pytorch_lightning.callbacks import RichProgressBar


class EpochBar(RichProgressBar):
    """Lightning's, with epochs counted from 1, as in every table: "Epoch 1/10".

    A version of Lightning that asks for the words in another way counts from 0.
    """

    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs
        of = f"/{last}" if last and last > 0 else ""
        return f"Epoch {current_epoch + 1}{of}".ljust(len(self.validation_description))
