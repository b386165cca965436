"""Towline in a Django project: ``pip install towline[django]``.

    INSTALLED_APPS = [..., "towline.contrib.django"]
    TOWLINE = {"default": {"address": "127.0.0.1:7480"}}

Then jobs are defined in the ``jobs.py`` of any installed app, ``manage.py towline_worker`` runs
them, and views dispatch them by ``dispatch_on_commit``; docs/frameworks.md tells more.
"""

from __future__ import annotations

from towline.errors import ConfigurationError

try:
    import django  # type: ignore[import-untyped]  # noqa: F401 - to say what is missing
except ImportError as error:
    raise ConfigurationError(
        "towline.contrib.django needs Django: pip install 'towline[django]'"
    ) from error

from towline.contrib.django.connections import FreshConnections
from towline.contrib.django.on_commit import dispatch_batch_on_commit, dispatch_on_commit

__all__ = ["FreshConnections", "dispatch_batch_on_commit", "dispatch_on_commit"]
