"""A keyring of the operating system, and a machine of a test's own to keep secrets on."""

from __future__ import annotations

from attrs import define, field
from keyring.errors import PasswordDeleteError


@define(eq=False)
class Keyring:
    """A keyring that holds what it was given, or fails as it was told.

    It does not derive from the library's base class, which would register it for every later test.
    """

    kept: dict[tuple[str, str], str] = field(factory=dict)
    failure: Exception | None = None
    forgetful: bool = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.failure is not None:
            raise self.failure
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.failure is not None:
            raise self.failure
        if not self.forgetful:
            self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.failure is not None:
            raise self.failure
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError("not found")


class NoKeyring(Keyring):
    """What the library gives where there is none."""


NoKeyring.__module__ = "keyring.backends.fail"


class PlaintextKeyring(Keyring):
    """One that keeps what it is given in a readable file."""


PlaintextKeyring.__module__ = "keyrings.alt.file"


class Chain(Keyring):
    """Several keyrings, asked in order."""

    def __init__(self, *backends: Keyring) -> None:
        super().__init__()
        self.backends = backends
