"""What the rules and the dashboard select, for tests that compare it with the schema."""

import json

import promql_parser
import yaml

from mainstay import ops
from mainstay._metrics import schema


def exported_names(namespace="mainstay"):
    """Give the name of every series that the schema says there is."""
    suffixes = {"histogram": ("_bucket", "_count", "_sum")}
    return {
        f"{namespace}_{family.name}{suffix}"
        for family in schema.EVERY
        for suffix in suffixes.get(family.kind, ("",))
    }


def all_rules(**options):
    return [
        rule for group in yaml.safe_load(ops.rules(**options))["groups"] for rule in group["rules"]
    ]


def names_in(expression):
    """Give the names of all series that an expression selects."""
    names, open_nodes = set(), [promql_parser.parse(expression)]
    while open_nodes:
        node = open_nodes.pop()
        for attribute in ("expr", "lhs", "rhs", "args", "vector_selector", "vs", "param"):
            found = getattr(node, attribute, None)
            open_nodes += found if isinstance(found, list) else [found] if found else []
        if isinstance(node, promql_parser.VectorSelector):
            names.add(node.name)
    return names


def every_panel(**options):
    """Give panels and rows in the order in which they stand, also those that are not open."""
    for each in json.loads(ops.dashboard(**options))["panels"]:
        yield each
        yield from each.get("panels", ())


def panels(**options):
    return [each for each in every_panel(**options) if each["type"] != "row"]


def asked(**options):
    """Give all that the dashboard asks: for panels, for what is marked, and for headings."""
    board = json.loads(ops.dashboard(**options))
    for panel in panels(**options):
        yield from (target["expr"] for target in panel["targets"])
    yield from (mark["expr"] for mark in board["annotations"]["list"])
    for variable in board["templating"]["list"]:
        if variable.get("hide"):
            yield variable["query"]["query"].removeprefix("query_result(").removesuffix(")")


def expressions(**options):
    """Give all queries, as Grafana sends them with everything chosen."""
    return [as_sent(expression) for expression in asked(**options)]


def as_sent(expression, interval="15s", during="1m"):
    """Give a query as Grafana sends it with everything chosen, for so much time."""
    values = {"$__rate_interval": interval, "$__range": during, "$job": ".+", "$component": ".+"}
    for name, value in values.items():
        expression = expression.replace(name, value)
    return expression
