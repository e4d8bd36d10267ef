"""What belongs together, directly or through others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Node = TypeVar("Node", int, str)


def joined(edges: Iterable[tuple[Node, Node]]) -> dict[Node, Node]:
    """Every node of the edges with the least node of its group; an edge to itself names a node that may be alone."""
    parent: dict[Node, Node] = {}

    def root(node: Node) -> Node:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in edges:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return {node: root(node) for node in list(parent)}
