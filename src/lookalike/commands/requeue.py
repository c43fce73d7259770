"""A job that Slurm starts again: the same command goes on with the run or sweep that was cut off.

Each command of a job notes its folder, because another start would get a new one, by the time.
Slurm starts a job again after `scontrol requeue`, a preemption or the loss of a machine.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from lookalike.files import writing
from lookalike.interruption import slurm_job

NOTES = ".slurm"  # below the folder of all outputs


def note_folder(outputs: Path, folder: Path) -> None:
    """Note where this command of a Slurm job writes; outside of a job do nothing."""
    if slurm_job() is not None:
        with writing(_note(outputs), "w") as stream:
            stream.write(str(folder.absolute()))


def is_requeued() -> bool:
    """Whether Slurm has started the job of this process before."""
    return slurm_job() is not None and os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def noted_folder(outputs: Path) -> Path | None:
    """Where the same command of this job wrote the last time; null if nothing is there."""
    note = _note(outputs)
    folder = Path(note.read_text(encoding="utf-8")) if note.is_file() else None
    return folder if folder is not None and folder.is_dir() else None


def requeue() -> None:
    """Ask Slurm to start this job again, and say whether it will."""
    asked = ["scontrol", "requeue", str(slurm_job())]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        said = done.stderr.strip() or "it goes on with the same command"
    except OSError as error:  # a container without Slurm's programs
        said = str(error)
    print(f"{' '.join(asked)}: {said}", file=sys.stderr)


def _note(outputs: Path) -> Path:
    """A file for this job and this command, as a job may give several."""
    command = hashlib.sha256("\0".join(sys.orig_argv).encode()).hexdigest()
    return outputs / NOTES / f"{slurm_job()}_{command[:16]}"
