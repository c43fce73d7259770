"""`lookalike VERB ...`; imports nothing heavy, so that help comes at once."""

import runpy
import sys
from importlib.metadata import version

from lookalike.errors import did_you_mean

VERBS = {
    "train": "train, validate and test; writes a run folder",
    "evaluate": "score a checkpoint: lookalike evaluate checkpoint=RUN/checkpoints/best.ckpt",
    "classify": "name what is on any images: lookalike classify images=photos",
    "search": "find similar images: lookalike search images=photo.jpg checkpoint=...",
    "embed": "vectors in files, part by part: lookalike embed images=photos out=vectors ...",
    "export": "a network as one ONNX file, with its preprocessing: lookalike export checkpoint=...",
    "report": "a page on runs, with pictures: lookalike report runs=outputs/train",
    "benchmark": "cells x folds x seeds with intervals, resumable: benchmark=smoke",
    "tune": "search hyper-parameters by validation, resumable: tune=multi_similarity",
    "prepare": "fetch or draw a data set and check every image: lookalike prepare data=flowers",
}

HELP = """\
lookalike: deep metric learning and image retrieval

usage: lookalike VERB [GROUP=CHOICE ...] [KEY=VALUE ...] [-m]

{verbs}

Every verb takes Hydra's overrides. Some to begin with:
  lookalike train                                  on drawn flowers, no download
  lookalike train data=flowers backbone=resnet50 backbone.weights=IMAGENET1K_V2
  lookalike train -m loss=triplet,contrastive seed=0,1
  lookalike train data=folder data.root=photos data.protocol=seen_classes
  lookalike train experiment=flowers_mobilenet_v2

lookalike VERB --help        the groups, their choices, and the whole configuration
lookalike VERB --cfg job     the configuration that a command line gives
lookalike --version
"""


def main() -> None:
    """Hand over to the verb's module, as if it were the program.

    runpy, because Lightning starts the processes of distributed training by what `__main__` is.
    """
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        verbs = "\n".join(f"  {name:<10}{purpose}" for name, purpose in VERBS.items())
        print(HELP.format(verbs=verbs))
    elif arguments[0] == "--version":
        print(f"lookalike {version('lookalike')}")
    elif arguments[0] in VERBS:
        verb = arguments[0]
        sys.argv = [f"lookalike {verb}", *arguments[1:]]
        runpy.run_module(f"lookalike.commands.{verb}", run_name="__main__", alter_sys=True)
    else:
        hint = did_you_mean(arguments[0], VERBS)
        sys.exit(f"lookalike: no verb {arguments[0]!r}; there are {', '.join(VERBS)}.{hint}")


if __name__ == "__main__":
    main()
