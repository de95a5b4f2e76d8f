"""`torch.compile` of a model's layers, where it pays after its compile time.

A layer is compiled, not the model: all layers of a stack share its code, which is compiled once, for sizes that change
from pass to pass. Attention over packed texts and masks drawn on a CPU stay as they are; a compiled layer is what lies
between them. A module keeps its name and its weights theirs: nothing that is saved tells that it was compiled.

Whether that pays, fairlead.training.precision says.
"""

import functools
import os
import shutil
import sys
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch

from fairlead.training.batching.passes import Network
from fairlead.training.models.packed_models import WITHIN, run_layer
from fairlead.training.updates.layers import layers_of


def compile_layers(network: Network) -> bool:
    """Have the layers compiled when they first run; False, with a warning, where no compiler is."""
    if not _compiler():
        print(
            "warning: training.compile: no C++ compiler is here (CXX, or g++ on the path), so that layers are not "
            "compiled; install one, or set it to off",
            file=sys.stderr,
            flush=True,
        )
        return False
    # A kernel chosen by its time would be another one after a restart, and sum in another order.
    torch._inductor.config.deterministic = True
    # What cannot be compiled runs as it is; torch says so.
    torch._dynamo.config.suppress_errors = True
    for layer in layers_of(network.model):
        if network.packed is None:
            layer.compile(dynamic=True)
        else:
            setattr(layer, WITHIN, MethodType(_run_compiled, layer))
    return True


def _run_compiled(layer: Any, recompute: bool, function: Callable[..., torch.Tensor], *arguments: Any) -> torch.Tensor:
    return run_layer(layer, recompute, _compiled(function), *arguments)


@functools.cache
def _compiled(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return torch.compile(function, dynamic=True)


def _compiler() -> str | None:
    """The C++ compiler that torch calls; on a GPU its launchers are compiled as well."""
    return shutil.which(os.environ.get("CXX", "g++"))
