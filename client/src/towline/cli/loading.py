"""Importing the module that defines the jobs, and what is in it."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import traceback
from pathlib import Path

from towline.cli.exits import UsageError
from towline.registry import JobDefinition, default_registry
from towline.worker import Worker

LEFT_OUT = re.compile(r"_|tests?$|test_|conftest$")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def load(module: str) -> list[JobDefinition]:
    """Import the module, of a package every module in it, and return the jobs that can be run.

    They come by type. Raises UsageError when something does not import or when no job is defined
    after it.
    """
    import_module(module)
    found = [default_registry.lookup(type) for type in default_registry.types()]
    runnable = [definition for definition in found if definition and definition.runnable]
    if not runnable:
        raise UsageError(
            f"MODULE: {module} defines no jobs: subclass towline.Job with a handle(), or put @job "
            "on a function"
        )
    return runnable


def load_worker(place: str) -> Worker:
    """Return the Worker that ``module:name`` names. Raises UsageError when there is none."""
    module, _, name = place.partition(":")
    import_module(module)
    found: object = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Worker):
        return found
    raise UsageError(
        f"MODULE: {name!r} in {module} is no Worker; write there {name or 'worker'} = Worker(...), "
        "or name a module of jobs without a colon"
    )


def import_module(module: str, option: str = "MODULE") -> None:
    """Import it, of a package all of it. Raises UsageError, naming the option."""
    if not _MODULE.fullmatch(module):
        meant = module.removesuffix(".py").strip("./").replace("/", ".")
        hint = f"; did you mean {meant}?" if _MODULE.fullmatch(meant) else ""
        raise UsageError(f"{option}: {module!r} is no module name, such as app.jobs{hint}")
    # What python -m does; the operator chose this folder by standing in it.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        _import_whole(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise _broken(option, module, error) from error
        raise UsageError(
            f"{option}: there is no module {error.name!r} in {Path.cwd()} or on the Python path"
        ) from None
    except Exception as error:
        raise _broken(option, module, error) from error
    except SystemExit as error:
        raise UsageError(
            f"{option}: importing {module} ended the process: it calls exit()"
        ) from error


def _import_whole(module: str) -> None:
    """Import it, and if it is a package what is in it, but for private modules and tests."""
    imported = importlib.import_module(module)
    for found in pkgutil.iter_modules(getattr(imported, "__path__", ())):
        if not LEFT_OUT.match(found.name):
            _import_whole(f"{module}.{found.name}")


def _broken(option: str, module: str, error: Exception) -> UsageError:
    """Say what went wrong and where, the innermost place outside the import machinery."""
    if isinstance(error, SyntaxError) and error.filename:
        place = f" ({Path(error.filename).name}, line {error.lineno})"
        what = error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not frame.filename.startswith("<frozen")]
        place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
        what = str(error)
    return UsageError(
        f"{option}: {module} does not import: {type(error).__name__}: {what}{place}; "
        "TOWLINE_DEBUG=1 shows the whole trace"
    )


def queues_of_jobs() -> list[str] | dict[str, int]:
    """Return the queues that the jobs name, with equal weights so that none starves another."""
    names = default_registry.queues()
    return names if len(names) == 1 else dict.fromkeys(names, 1)
