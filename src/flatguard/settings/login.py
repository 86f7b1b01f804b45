"""Whose secrets: a login name at a gateway."""

from __future__ import annotations

from attrs import frozen


@frozen
class Login:
    """Whose secrets: a login name at a gateway. The gateway does not tell upper from lower case in names."""

    user_name: str
    rest_url: str

    @property
    def name(self) -> str:
        """What it is filed under, wherever it is stored."""
        return f"{self.user_name.casefold()}@{self.rest_url}"
