"""The best checkpoint of a chain of runs, each of which goes on where the last was cut off."""

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint


class KeptCheckpoint(ModelCheckpoint):
    """Lightning's, which forgets its best score once its folder has another name.

    What a resumed run knows of checkpoints is looked for in its own folder, where a run that goes
    on elsewhere finds a copy. A best score whose checkpoint is gone doesn't count.

    Args:
        folder: of the checkpoints.
        name: of the file, without its ending.
        choice: further arguments of Lightning's class.
    """

    def __init__(self, folder: Path, name: str, **choice: Any) -> None:
        super().__init__(folder, filename=name, enable_version_counter=False, **choice)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = Path(self.dirpath or "")

        def here(path: str) -> str:
            return str(own / Path(path).name) if path else ""

        if not Path(here(state_dict["best_model_path"])).is_file():
            return
        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        super().load_state_dict(
            {
                **state_dict,
                **{name: here(state_dict[name]) for name in names},
                "best_k_models": {here(k): v for k, v in state_dict["best_k_models"].items()},
                "dirpath": self.dirpath,
            }
        )
