"""Reads back what mainstay exports: the text format of Prometheus.

What stands in front of a value is the same at each scrape. So a series goes through the parser of
prometheus_client once, and is looked up from then on.
"""

import math
import re
from collections.abc import Iterable
from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from mainstay._metrics.schema import CALLS, Family, check_namespace

Labels: TypeAlias = tuple[str, ...]
"""Values of a family's labels in the order of the schema; for a bucket, its bound after them."""

Samples: TypeAlias = dict[str, dict[Labels, float]]
"""Values by the name of a sample, without namespace, and by labels."""

_TYPE_OR_HELP = re.compile(r"^# (?:TYPE|HELP) \w", re.MULTILINE)
_OTHER_NAMESPACE = re.compile(rf"^(\w+)_{CALLS.name}\{{component=", re.MULTILINE)
_EXEMPLAR = " # {"  # OpenMetrics has one behind a value
_LONGEST_QUOTE = 40


def sample_names(family: Family) -> tuple[str, ...]:
    """Return the names that the samples of a family have, without namespace."""
    if family.kind != "histogram":
        return (family.name,)
    return f"{family.name}_bucket", f"{family.name}_sum", f"{family.name}_count"


class TextReader:
    """Reads the answers of one endpoint, each of which is much like the one before.

    Args:
        namespace: The prefix of the names.
        families: What is read; all other lines are passed over.

    Raises:
        ValueError: If *namespace* is not a name that Prometheus takes.
    """

    def __init__(self, namespace: str, families: Iterable[Family]) -> None:
        check_namespace(namespace)
        self._namespace = namespace
        self._prefix = f"{namespace}_"
        self._labels = {
            name: (*family.labels, "le") if name.endswith("_bucket") else family.labels
            for family in families
            for name in sample_names(family)
        }
        self._known: dict[str, tuple[str, Labels] | None] = {}

    def read(self, text: str) -> Samples:
        """Return the samples of an answer, added up over labels that the schema does not have.

        Those that are not finite are left out.

        Raises:
            ValueError: If it is no exposition, or has nothing of this namespace.
        """
        lines = [line for line in text.split("\n") if line.startswith(self._prefix)]
        if not lines:
            raise ValueError(self._what_else(text))
        before, self._known = self._known, {}
        samples: Samples = {}
        for line in lines:
            head, _, tail = line.rpartition("} ")
            series, number = self._series_and_value(line, head, tail, before)
            if head and _EXEMPLAR not in line:
                self._known[head] = series
            if series is not None and math.isfinite(number):
                name, labels = series
                values = samples.setdefault(name, {})
                values[labels] = values.get(labels, 0.0) + number
        return samples

    def _series_and_value(
        self,
        line: str,
        head: str,
        tail: str,
        known: dict[str, tuple[str, Labels] | None],
    ) -> tuple[tuple[str, Labels] | None, float]:
        if head in known and _EXEMPLAR not in line:
            try:
                return known[head], float(tail)
            except ValueError:  # there is a timestamp, or this is no number
                pass
        try:
            (metric,) = text_string_to_metric_families(line)
            (sample,) = metric.samples
        except (ValueError, LookupError):  # the parser takes lines apart without looking
            shown = line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]}..."
            raise ValueError(f"has a line that is no sample: {shown}") from None
        name = sample.name.removeprefix(self._prefix)
        labels = self._labels.get(name)
        if labels is None or not sample.labels.keys() >= {*labels}:
            return None, 0.0
        return (name, tuple(sample.labels[label] for label in labels)), float(sample.value)

    def _what_else(self, text: str) -> str:
        others = sorted({*_OTHER_NAMESPACE.findall(text)})
        if others:
            return f"has the namespace {' and '.join(others)}, not {self._namespace}: --namespace"
        if _TYPE_OR_HELP.search(text):
            return f"has metrics, but none of mainstay's: nothing is named {self._prefix}..."
        return "answers with something else than metrics"
