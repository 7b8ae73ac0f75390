"""Which queue `manage.py litequeue_worker` serves, and the modules with its tasks. Imports those modules."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from litequeue.queue import Queue, default_queue

EXAMPLE = 'LITEQUEUE = {"QUEUE": "shop.queue:queue"}'
SETTINGS = ("QUEUE",)


def task_modules() -> list[str]:
    """Return the `tasks` modules of the apps in INSTALLED_APPS."""
    from django.apps import apps
    from django.utils.module_loading import module_has_submodule

    return [f"{app.name}.tasks" for app in apps.get_app_configs() if module_has_submodule(app.module, "tasks")]


def target_of(modules: list[str]) -> str | None:
    """Return the setting's queue, else the one that these modules use, as `litequeue run` takes it; None: the default.

    Raises `ImproperlyConfigured`, which says what to set.
    """
    from django.core.exceptions import ImproperlyConfigured

    named = _setting()
    if named is not None:
        return named
    found = _queues_of(modules)
    if len(found) > 1:
        names = ", ".join(sorted(found.values()))
        raise ImproperlyConfigured(f"the tasks modules use several queues ({names}); name one in settings: {EXAMPLE}")
    if found:
        return next(iter(found.values()))
    if default_queue.tasks:
        return None
    looked = ", ".join(modules) or "no app has a module named tasks"
    raise ImproperlyConfigured(f"no queue was found ({looked}); name it in settings: {EXAMPLE}")


def _setting() -> str | None:
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    given = getattr(settings, "LITEQUEUE", {})
    if not isinstance(given, Mapping) or not set(given) <= set(SETTINGS):
        raise ImproperlyConfigured(
            f"the setting LITEQUEUE is a dict with the key QUEUE, got {given!r}; write {EXAMPLE}"
        )
    named = given.get("QUEUE")
    if named is not None and not isinstance(named, str):
        raise ImproperlyConfigured(f"LITEQUEUE['QUEUE'] names a module and the queue in it, got {named!r}: {EXAMPLE}")
    return named


def _queues_of(modules: list[str]) -> dict[int, str]:
    """Import the modules; return the names of the queues in them, by identity, but for the default queue."""
    found: dict[int, str] = {}
    for module in modules:
        values: dict[str, Any] = vars(importlib.import_module(module))
        for name, value in values.items():
            if isinstance(value, Queue) and value is not default_queue:
                found.setdefault(id(value), f"{module}:{name}")
    return found
