"""What lookalike takes from the insides of other packages, each with a way to do without it."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from lookalike.errors import InputError


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

    Importing torch._dynamo takes as long as importing torch itself (2 s on 2 cores). torchvision
    only marks functions for it and asks whether RoI align can be compiled. While torchvision is
    imported a stand-in takes the marks and the question, and hands them on to the real module once
    that is there. Where torch._dynamo is there already, nothing is changed.
    """
    import torch  # before the stand-in, which it must not find

    path = f"torchvision.{name}" if name else "torchvision"
    if path not in sys.modules and "torch._dynamo" not in sys.modules:
        with (
            suppress(ImportError, AttributeError, TypeError),  # another version asks for more
            _stand_in_for_dynamo(torch),
        ):
            import_module(path)
    return import_module(path)


@contextmanager
def _stand_in_for_dynamo(torch: ModuleType) -> Iterator[None]:
    names = ("torch._dynamo", "torch._dynamo.utils")
    package, utils = (ModuleType(name) for name in names)
    package.__path__ = []  # a package, so that `utils` is looked for inside it
    vars(package).update(utils=utils, disable=_disable_later)
    vars(utils).update(is_compile_supported=_is_compile_supported)
    sys.modules.update(zip(names, (package, utils), strict=True))
    vars(torch)["_dynamo"] = package
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)
        vars(torch).pop("_dynamo", None)


def _is_compile_supported(device_type: Any) -> Any:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)


def _disable_later(function: Any = None, *how: Any, **options: Any) -> Any:
    """torch._dynamo.disable, which only has an effect once something has imported it."""
    if function is None:
        return lambda given: _disable_later(given, *how, **options)

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        dynamo = sys.modules.get("torch._dynamo")
        disabled = function if dynamo is None else dynamo.disable(function, *how, **options)
        return disabled(*arguments, **named)

    return call


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


@contextmanager
def processes_handed_over(watch: Callable[[Sequence[Any]], object]) -> Iterator[None]:
    """While it lasts, `watch` gets the processes that Lightning starts for distributed training.

    It takes the place of Lightning's observer, which kills them all and this process, too, if one
    ends, without a word on how to go on. A version without that name keeps its own.

    Args:
        watch: called with the processes (subprocess.Popen), by local rank from 1 on.
    """
    launcher = import_module("pytorch_lightning.strategies.launchers.subprocess_script")
    name = "_launch_process_observer"
    kept = getattr(launcher, name, None)
    if kept is None:
        yield
        return
    setattr(launcher, name, watch)
    try:
        yield
    finally:
        setattr(launcher, name, kept)


def timm_module() -> ModuleType:
    """timm, imported as quickly as torchvision.

    Raises:
        InputError: it is not installed.
    """
    try:
        torchvision_module()  # timm imports it
        return import_module("timm")
    except ImportError:
        raise InputError('backbone=timm needs timm: pip install "lookalike[timm]"') from None


@contextmanager
def quiet_onnx_export() -> Iterator[None]:
    """While it lasts, torch's exporter does not print the graph of a network that it can't export.

    It means to print if it was told to, but looks at a function instead of calling it. Where that
    function is missing there is nothing to do.
    """
    import torch

    inside: Any = getattr(torch, "_C", None)
    name = "_jit_is_onnx_log_enabled"
    kept = getattr(inside, name, None)
    if kept is None:
        yield
        return
    setattr(inside, name, None)
    try:
        yield
    finally:
        setattr(inside, name, kept)


KERNELS = "OPENBLAS_CORETYPE"  # the environment variable that names OpenBLAS's kernels


def faiss_module() -> ModuleType:
    """FAISS, with the kernels of this processor.

    The OpenBLAS inside of faiss-cpu is of 2021. On Intel's later processors it takes kernels for
    those of 2004, and a search takes three times as long; so AVX-512 is named to it. A choice of
    the user's is kept, and processes that are started later see the environment as it was.

    Raises:
        ImportError: FAISS is not installed.
    """
    if "faiss" in sys.modules or KERNELS in os.environ or not _intel_has_avx512():
        return import_module("faiss")
    os.environ[KERNELS] = "SkylakeX"
    try:
        return import_module("faiss")
    finally:
        del os.environ[KERNELS]


def _intel_has_avx512() -> bool:
    described = Path("/proc/cpuinfo")
    text = described.read_text() if described.exists() else ""
    return "GenuineIntel" in text and " avx512f " in text


def openvino_module() -> ModuleType:
    """OpenVINO, which reports nothing: importing it sends its maker a message otherwise.

    It does without its package for that where that is missing.
    """
    reporting = "openvino_telemetry"
    if "openvino" in sys.modules or reporting in sys.modules:
        return import_module("openvino")
    missing: Any = None  # Python's way to say that a module can't be imported
    sys.modules[reporting] = missing
    try:
        return import_module("openvino")
    finally:
        del sys.modules[reporting]
