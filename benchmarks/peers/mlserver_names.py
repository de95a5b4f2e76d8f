"""Names that optimum 1.27, which MLServer's Hugging Face runtime needs, imports from where torch had them until 2.8.

It is the `sitecustomize` of the peer's environment, so that the processes that MLServer starts have it too.
"""

import importlib
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

OLD, NEW = "torch.onnx.symbolic_opset14", "torch.onnx._internal.torchscript_exporter.symbolic_opset14"


class Moved(importlib.machinery.PathFinder):
    """Finds the old place as it is, and fills it with all names of the new one."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Of the one module, or None."""
        return importlib.machinery.ModuleSpec(OLD, cls) if fullname == OLD else None  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: importlib.machinery.ModuleSpec) -> None:
        """As usual."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Every name, those with an underscore too."""
        new = importlib.import_module(NEW)
        module.__dict__.update({name: value for name, value in vars(new).items() if not name.startswith("__")})


sys.meta_path.insert(0, Moved)
