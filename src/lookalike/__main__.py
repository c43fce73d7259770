"""`lookalike VERB ...`; imports nothing heavy, so that help comes at once."""

import gc
import os
import runpy
import sys
from importlib.metadata import version

from lookalike.config_folder import config_folder
from lookalike.errors import did_you_mean

TASKS = {
    "get data ready": {
        "prepare": "fetch or draw a data set, and check every image",
    },
    "train": {
        "train": "train, validate and test; writes a run folder",
        "tune": "search hyper-parameters by validation, resumable",
        "benchmark": "losses x folds x seeds with confidence intervals, resumable",
    },
    "measure and look": {
        "evaluate": "score a checkpoint, also on other images",
        "report": "a page on one or many runs, with pictures",
    },
    "use a network": {
        "search": "find the images that look like yours",
        "classify": "name what is on your images",
        "index": "a folder of embedded images that is searched at once",
        "serve": "a web page that searches an index",
        "duplicates": "groups of near-duplicates in an index",
        "embed": "write the vectors of many images, part by part",
        "export": "a network as one ONNX file, with its preprocessing",
        "share": "hand a network on: a folder, or the Hugging Face Hub",
    },
}
VERBS = {verb: purpose for verbs in TASKS.values() for verb, purpose in verbs.items()}

HELP = """\
lookalike: deep metric learning and image retrieval

usage: lookalike VERB [GROUP=CHOICE ...] [KEY=VALUE ...] [-m]

{verbs}

Some to begin with:
  lookalike train                                  on drawn flowers, no download
  lookalike train data=flowers backbone=resnet50 backbone.weights=IMAGENET1K_V2
  lookalike train -m loss=triplet,contrastive seed=0,1
  lookalike train data=folder data.root=photos data.protocol=seen_classes
  lookalike train experiment=flowers_mobilenet_v2

lookalike VERB --help        examples, groups and keys of a verb
lookalike VERB --help loss   the choices of a group
lookalike show loss=triplet  the values of a choice, with comments
lookalike VERB --cfg job     the configuration that a command line gives
lookalike completion bash    completion for your shell
lookalike --version
"""


def main() -> None:
    """Hand over to the verb's module, as if it were the program.

    runpy, because Lightning starts the processes of distributed training by what `__main__` is.
    """
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs=_listed()))
    elif arguments[0] == "--version":
        print(f"lookalike {version('lookalike')}")
    elif arguments[0] == "completion":
        from lookalike.commands import completion

        completion.main(config_folder(), [*VERBS, "show"], arguments[1:])
    elif arguments[0] == "show":
        _run("show", arguments[1:])
    elif arguments[0] not in VERBS:
        hint = did_you_mean(arguments[0], [*VERBS, "show", "completion"])
        sys.exit(f"lookalike: no verb {arguments[0]!r}; there are {', '.join(VERBS)}.{hint}")
    elif {"-h", "--help"} & set(arguments):
        from lookalike.commands.help import show_help

        show_help(config_folder(), arguments[0], VERBS[arguments[0]], arguments[1:])
    else:
        if "LOCAL_RANK" not in os.environ:
            print("loading torch ...", file=sys.stderr, flush=True)
        _run(arguments[0], arguments[1:])


def _run(command: str, arguments: list[str]) -> None:
    """Run the verb's module.

    Python looks for garbage again and again while torch is imported, and once more at the end,
    without finding much: a quarter of the time of a short verb. `run_verb` lets it look again.
    """
    sys.argv = [f"lookalike {command}", *arguments]
    gc.disable()
    try:
        runpy.run_module(f"lookalike.commands.{command}", run_name="__main__", alter_sys=True)
    finally:
        if "triton" not in sys.modules:  # which would print all of its own as leaked
            gc.freeze()  # so that what lives is left alone


def _listed() -> str:
    """The verbs, by what people want."""
    blocks = []
    for task, verbs in TASKS.items():
        lines = [f"  {name:<12}{purpose}" for name, purpose in verbs.items()]
        blocks.append("\n".join([task, *lines]))
    return "\n\n".join(blocks)


if __name__ == "__main__":
    main()
