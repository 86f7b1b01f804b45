"""A text that is shown to nobody: an API key, a token, a passphrase, and whatever is made of one."""

from __future__ import annotations

import hmac
from typing import NoReturn, final


@final
class Secret:
    """A text that shows itself to nobody who does not call ``reveal``: not in a repr, a format, a pickle or a copy.

    Two of the same text are equal, so that tokens can be compared without being shown.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text. What is done with it must not end in a log, an error, a file or a process list.

        Call it where the text is used, not before: a local variable is shown by a traceback that shows locals.
        """
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(_octets(self), _octets(other))

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is neither pickled nor copied")


def _octets(secret: Secret) -> bytes:
    return secret.reveal().encode(errors="surrogatepass")
