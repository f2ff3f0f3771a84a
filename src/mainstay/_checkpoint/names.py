"""The names of a run's iterations, in the items and steps that they are in."""

from typing import Any


class Names:
    """Numbers names that are used again.

    A scope is what names inside an item or step begin with: `""` outside all of them.
    """

    __slots__ = ("_used",)

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def numbered(self, scope: str, name: str) -> str:
        """Give a name that nothing else in *scope* has: `name`, `name#2`, `name#3` and so on."""
        number = self._used.get(scope + name, 0) + 1
        numbered = name if number == 1 else f"{name}#{number}"
        while numbered != name and scope + numbered in self._used:  # a name that users gave
            number += 1
            numbered = f"{name}#{number}"
        self._used[scope + name] = number
        self._used.setdefault(scope + numbered, 1)
        return numbered

    def leave(self, scope: str) -> None:
        """Forget all names in *scope*, and in all scopes inside it."""
        forget(self._used, scope)


def forget(names: dict[str, Any], scope: str) -> None:
    """Take all names in *scope* out of a dict."""
    for name in [name for name in names if name.startswith(scope)]:
        del names[name]
