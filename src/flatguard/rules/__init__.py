"""One rule, one file. A rule is a frozen value whose fields are its settings; it judges a state and returns a breach.

To add one: a file here, a test, a page in ``docs/rules``. ``discover()`` finds it; there is no list to edit. Other
distributions add theirs through the entry-point group ``flatguard.rules``, where the entry's name is the rule's name.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType

from flatguard.rules._rule import Rule

ENTRY_POINTS = "flatguard.rules"


def discover() -> Mapping[str, type[Rule]]:
    """Return every rule class by the rule's name, our own and those of other distributions.

    Raises RuntimeError where a module does not define exactly one rule or two rules bear one name.
    """
    found: dict[str, type[Rule]] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            found[module.name] = _only_rule_in(module.name)
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name in found:
            raise RuntimeError(f"two rules are called {entry.name!r}; the second is {entry.value}")
        found[entry.name] = entry.load()
    return MappingProxyType(found)


def _only_rule_in(name: str) -> type[Rule]:
    module = importlib.import_module(f"{__name__}.{name}")
    own = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Rule) and member.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise RuntimeError(f"{module.__name__} must define exactly one rule, it defines {len(own)}")
    return own[0]
