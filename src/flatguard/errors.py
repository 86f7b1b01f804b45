"""Every error that flatguard raises on purpose, and who has to do what about it.

Each carries a sentence for a person; ``hint`` says what to do next.
"""

from __future__ import annotations


class FlatguardError(Exception):
    """Base of the family; never raised itself."""

    exit_status = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InvalidSettings(FlatguardError):
    """The settings file has to be corrected; nothing was started."""

    exit_status = 2


class LoginRefused(FlatguardError):
    """The broker does not accept the user name or the key; a person has to mend that."""

    exit_status = 4


class AlreadyGuarded(FlatguardError):
    """Another flatguard on this machine guards the same account; stop one of the two."""

    exit_status = 4


class AccountUnknown(FlatguardError):
    """The settings name an account that this login does not have."""

    exit_status = 2


class GatewayUnreachable(FlatguardError):
    """No answer from the gateway; it usually passes by itself and is tried again."""

    exit_status = 5


class UnreadableAnswer(FlatguardError):
    """The broker answered something that cannot be understood; kept with its text, read again."""


class JournalDamaged(FlatguardError):
    """The journal cannot be read; it is set aside, never overwritten, and its accounts count as locked."""


class JournalUnavailable(FlatguardError):
    """The journal cannot be opened now, which may pass; guarding begins without it, and it is tried again."""


class NotOnRecord(FlatguardError):
    """The journal has nothing of what was asked for; look at what it has, or ask for something else."""


class WrongUsage(FlatguardError):
    """What was typed cannot be meant; nothing was done."""

    exit_status = 2
