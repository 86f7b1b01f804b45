"""One rule, one file. A rule is a frozen value whose fields are its settings; it judges a state and returns a breach.

To add one: a file here, a test, a page in ``docs/rules``. ``discover()`` finds it; there is no list to edit. Other
distributions add theirs through the entry-point group ``flatguard.rules``, where the entry's name is the rule's name.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from flatguard.rules import _lockout
from flatguard.rules._rule import Fact, Finding, Measure, Rule

__all__ = ["ENTRY_POINTS", "Fact", "Finding", "Measure", "Rule", "discover"]

ENTRY_POINTS = "flatguard.rules"


def discover() -> Mapping[str, type[Rule]]:
    """Return every rule class by the rule's name, our own and those of other distributions.

    Raises RuntimeError where a module does not define exactly one rule, an entry cannot be loaded or is none, or two
    rules bear one name.
    """
    found: dict[str, type[Rule]] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            _check_free(module.name, f"{__name__}.{module.name}", found)
            found[module.name] = _only_rule_in(module.name)
    for entry in entry_points(group=ENTRY_POINTS):
        _check_free(entry.name, entry.value, found)
        found[entry.name] = _load(entry)
    return MappingProxyType(found)


def _check_free(name: str, source: str, taken: Mapping[str, object]) -> None:
    if name == _lockout.NAME:
        raise RuntimeError(f"no rule can be called {name!r}, as {source} is: lockouts themselves are reported so")
    if name in taken:
        raise RuntimeError(f"two rules are called {name!r}; the second is {source}")


def _load(entry: EntryPoint) -> type[Rule]:
    try:
        rule = entry.load()
    except (ImportError, AttributeError) as error:
        raise RuntimeError(f"the rule {entry.name!r} cannot be loaded from {entry.value}: {error}") from error
    if not (inspect.isclass(rule) and issubclass(rule, Rule)):
        raise RuntimeError(f"the rule {entry.name!r} cannot be loaded from {entry.value}: it is no subclass of Rule")
    return rule


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
