"""What the reader chooses, and what rows say in their headings."""

from mainstay.ops._grafana.document import DATASOURCE, Json

_ON_A_CHANGE_OF_TIME = 2
_HIDDEN = 2
_FIRST_NUMBER = r"/\{\} (\d+)/"


def datasource_variable() -> Json:
    """Return the variable with which the reader chooses a Prometheus."""
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }


def label_variable(name: str, query: str) -> Json:
    """Return a variable with which the reader chooses values of a label."""
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": _ON_A_CHANGE_OF_TIME,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def number_variable(name: str, expression: str) -> Json:
    """Return a variable that nobody sees, for the whole number that answers *expression*."""
    return {
        "name": name,
        "type": "query",
        "hide": _HIDDEN,
        "datasource": DATASOURCE,
        "query": {"query": f"query_result({expression})", "refId": name},
        "regex": _FIRST_NUMBER,
        "refresh": _ON_A_CHANGE_OF_TIME,
    }
