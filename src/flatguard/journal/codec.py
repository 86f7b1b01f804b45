"""Values to JSON text and back, exactly: money as text, times with their zone, unions by the name of their class."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import GenericAlias
from typing import Any, TypeVar, get_args, get_origin

from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.preconf.json import JsonConverter, make_converter
from cattrs.strategies import configure_tagged_union
from immutables import Map

from flatguard.model.account import AccountState
from flatguard.model.decisions import Decision
from flatguard.model.events import Event

T = TypeVar("T")

EVENT_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}


def _is_map(kind: Any) -> bool:
    return get_origin(kind) is Map


def _converter() -> JsonConverter:
    converter = make_converter()
    converter.register_unstructure_hook(Decimal, str)
    converter.register_structure_hook(Decimal, lambda text, _: Decimal(text))
    converter.register_unstructure_hook(datetime, datetime.isoformat)
    converter.register_structure_hook(datetime, lambda text, _: datetime.fromisoformat(text))
    converter.register_unstructure_hook(timedelta, lambda span: span // timedelta(microseconds=1))
    converter.register_structure_hook(timedelta, lambda count, _: timedelta(microseconds=count))
    converter.register_unstructure_hook(date, date.isoformat)
    converter.register_structure_hook(date, lambda text, _: date.fromisoformat(text))
    # a Map is in no order of its own: equal ones are to be the same text
    converter.register_unstructure_hook_func(_is_map, lambda rows: converter.unstructure(dict(sorted(rows.items()))))

    def map_of(rows: Any, kind: Any) -> Map[Any, Any]:
        plain: Any = GenericAlias(dict, get_args(kind))
        return Map(converter.structure(rows, plain))

    converter.register_structure_hook_func(_is_map, map_of)
    configure_tagged_union(Decision, converter)
    # the terms of an account are the settings', not the record's
    without_terms: Any = {"terms": override(omit=True)}
    converter.register_unstructure_hook(
        AccountState, make_dict_unstructure_fn(AccountState, converter, **without_terms)
    )
    converter.register_structure_hook(AccountState, make_dict_structure_fn(AccountState, converter, **without_terms))
    return converter


_CONVERTER = _converter()


def encode(value: object, kind: Any = None) -> str:
    """Return ``value`` as compact JSON text; ``kind`` where it is a union or a collection.

    ASCII only: what a broker sends may hold halves of characters, which UTF-8 cannot express.
    """
    return json.dumps(_CONVERTER.unstructure(value, kind), separators=(",", ":"))


def decode(text: str, kind: Any) -> Any:
    """Return the value of type ``kind`` that ``encode`` made ``text`` of. Raises ValueError where it did not."""
    try:
        return _CONVERTER.structure(json.loads(text), kind)
    except (BaseValidationError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"not a {kind}: {error}") from None
