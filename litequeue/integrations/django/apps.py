"""The app of INSTALLED_APPS: takes part when Django has started."""

from __future__ import annotations

from django.apps import AppConfig

from litequeue.integrations.django import take_part


class LiteQueueConfig(AppConfig):  # type: ignore[misc]
    """The app 'litequeue.integrations.django'; it has no models."""

    name = "litequeue.integrations.django"
    label = "litequeue"
    verbose_name = "litequeue"

    def ready(self) -> None:
        """Start."""
        take_part()
