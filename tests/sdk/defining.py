"""Jobs as another module would define them."""

import sys
import types
from dataclasses import field
from typing import Any

from towline import Job, Registry, job


def define(body: str, registry: Registry, module: str = "app.jobs") -> Any:
    """Run source text as if it were a module; each gets its own, as two files would."""
    made = types.ModuleType(module)
    made.__dict__.update(Job=Job, job=job, registry=registry, Any=Any, field=field)
    sys.modules[module] = made
    try:
        exec(body, made.__dict__)
    finally:
        del sys.modules[module]
    return made
