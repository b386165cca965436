"""Names of a package whose modules are loaded when they are used, and not with the package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any


def loading_when_used(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package (PEP 562). ``modules``: where each name is."""

    def load(name: str) -> Any:
        module = modules.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(module), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
