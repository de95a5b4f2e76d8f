"""KServe's own `huggingfaceserver`, run from a source tree of KServe without vLLM.

    python kserve_huggingface.py KSERVE_SOURCE --model_id FOLDER [its own arguments ...]

The server names vLLM's types even where it serves an encoder, which vLLM has no part in, and ends with a NameError when
they are not there. Here they are empty stand-ins. Nothing of the server is changed.
"""

import importlib.abc
import importlib.machinery
import runpy
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from pydantic import BaseModel

# Its parser of arguments, in whose place the server takes the usual one.
ABSENT = "vllm.utils"


class StandIn(ModuleType):
    """A module that has every name: of a class without fields, or of a decorator that changes nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        is_class = name[0].isupper()
        made = type(name, (BaseModel,), {"__init__": lambda *_, **__: None}) if is_class else _unchanged
        setattr(self, name, made)
        return made


def _unchanged(function: Any) -> Any:
    return function


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a stand-in for every module of vLLM but the absent one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The stand-in's, or None."""
        if fullname.partition(".")[0] != "vllm" or fullname.startswith(ABSENT):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """An empty one."""
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """It has no code."""


if __name__ == "__main__":
    source = sys.argv.pop(1)
    sys.path[0:1] = [f"{source}/python/{name}" for name in ("huggingfaceserver", "kserve", "storage")]
    sys.meta_path.append(Finder())
    runpy.run_module("huggingfaceserver", run_name="__main__", alter_sys=True)
