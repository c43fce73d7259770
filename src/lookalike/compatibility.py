"""What lookalike takes from the insides of other packages, each with a way to do without it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


def cpu_multiplies_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively, by AVX-512 or by AMX.

    torch.cpu names its questions with an underscore; a version without them is told no.
    """
    import torch

    avx = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return bool(avx() or amx())


def torchvision_module(name: str = "") -> ModuleType:
    """torchvision, or a module of it such as "transforms.v2", without importing torch._dynamo.

    Importing torch._dynamo takes as long as importing torch itself (2 seconds on 2 cores).

    torchvision asks torch._dynamo one question, whether RoI align can be compiled, and imports all
    of it for that. While torchvision is imported, a stand-in takes the question and asks the real
    module once there is somebody to answer. Where dynamo is there already, nothing is changed.
    """
    if "torchvision" not in sys.modules:
        import torch  # before the stand-in, which it must not find

        if "torch._dynamo" not in sys.modules:
            _import_without_dynamo(torch)
    return import_module(f"torchvision.{name}" if name else "torchvision")


def _import_without_dynamo(torch: ModuleType) -> None:
    with _stand_in_for_dynamo(torch):
        try:
            import_module("torchvision")
        except (ImportError, AttributeError):  # another version, which asks for more
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]


@contextmanager
def _stand_in_for_dynamo(torch: ModuleType) -> Iterator[None]:
    def is_compile_supported(device_type: Any) -> Any:
        from torch._dynamo.utils import is_compile_supported as answer

        return answer(device_type)

    names = ("torch._dynamo", "torch._dynamo.utils")
    package, utils = (ModuleType(name) for name in names)
    package.__path__ = []  # a package, so that `utils` is looked for inside it
    vars(package)["utils"] = utils
    vars(utils)["is_compile_supported"] = is_compile_supported
    sys.modules.update(zip(names, (package, utils), strict=True))
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        vars(torch).pop("_dynamo", None)


def launch(task: Callable[..., Any], config: Any, jobs: Sequence[Sequence[str]]) -> None:
    """Hand jobs to the launcher that a Hydra configuration chooses, as a sweeper does.

    A sweeper of ours would have to live in a package `hydra_plugins`, and Hydra would import it at
    every start of every verb. What a launcher wants to know is not public, though.

    Args:
        task: called with the configuration of each job.
        config: composed with `return_hydra_config=True`.
        jobs: the overrides of each.
    """
    from hydra._internal.callbacks import Callbacks
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext

    loader = GlobalHydra.instance().config_loader()
    context = HydraContext(loader, Callbacks(config))
    launcher = Plugins.instance().instantiate_launcher(context, task, config)
    launcher.launch([list(job) for job in jobs], initial_job_idx=0)
