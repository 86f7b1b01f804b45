"""For values that are made hundreds of times a second."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attrs import frozen as value
else:
    from attrs import define

    value = define(unsafe_hash=True)
    """Fixed as by ``frozen``, but only the type checker sees to it.

    ``frozen`` costs a call for every field when a value is made: 1.06 µs for sixteen fields, against 0.22.
    """

__all__ = ["value"]
