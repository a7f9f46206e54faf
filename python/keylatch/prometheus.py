"""A manager's figures for Prometheus, by way of the package prometheus_client (`pip install keylatch[prometheus]`).

>>> from keylatch import LockManager
>>> from keylatch.prometheus import LockCollector
>>> from prometheus_client import CollectorRegistry
>>> registry = CollectorRegistry()
>>> locks = LockManager()
>>> collector = LockCollector(locks, registry=registry)
>>> with locks.lock("cat.jpg"):
...     registry.get_sample_value("keylatch_holders", {"manager": "default"})
1

The names are those that LockManager.openmetrics() has, which needs no other package; here each has the label manager.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from ._exceptions import Forked
from ._manager import LockManager

__all__ = ["LockCollector"]


class LockCollector(Collector):
    """Shows the figures of managers to a registry of prometheus_client, read anew for each scrape.

    Several managers go into one collector, by the names that tell them apart in the label manager. A single one may be
    given by itself; it is called "default". registry=None registers the collector nowhere. In a forked child managers of
    its parent are left out.
    """

    def __init__(
        self, managers: LockManager | Mapping[str, LockManager], *, registry: CollectorRegistry | None = REGISTRY
    ) -> None:
        self._managers = {"default": managers} if isinstance(managers, LockManager) else dict(managers)
        for name, locks in self._managers.items():
            # Later it would be the scrape of everything in the registry that fails.
            if not isinstance(name, str) or not isinstance(locks, LockManager):
                raise TypeError(f"a LockCollector is of managers by their names, not {locks!r} by {name!r}")
        if registry is not None:
            registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The figures: so that a second collector of the same names is refused."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """The figures as they are now."""
        families: dict[str, Metric] = {}
        for name, locks in self._managers.items():
            try:
                text = locks.openmetrics()
            except Forked:
                # The parent shows them; here there are others to be shown.
                continue
            for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
                known = families.setdefault(family.name, family)
                samples = [sample._replace(labels={"manager": name, **sample.labels}) for sample in family.samples]
                known.samples = samples if known is family else known.samples + samples
        return families.values()
