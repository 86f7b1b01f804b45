"""Auth loss guard: when the broker no longer lets the account trade, nothing stays open.

Judged after every event, on the account's ``canTrade``. Closes everything, cancels everything and locks the account
until the broker lets it trade again. A lost connection or login is not its matter.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from attrs import frozen

from flatguard.model.account import AccountState
from flatguard.model.decisions import Decision, Flatten, LockOut
from flatguard.model.events import AccountChanged, Event
from flatguard.model.lockouts import Lockout
from flatguard.rules._rule import Finding, Rule

NAME = "auth_loss_guard"
RESTORED = "the broker lets the account trade again"


@frozen
class AuthLossGuard(Rule):
    """Settings of ``[rules.auth_loss_guard]``.

    ``auto_unlock_on_restore``: the lock ends when the account may trade again, else only by an administrator's act.
    """

    enforcement: Literal["close_all_and_lockout", "alert_only"] = "close_all_and_lockout"
    auto_unlock_on_restore: bool = True

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach while the account may not trade and is not locked for it yet."""
        if state.account is None or state.account.can_trade or self._locked(state):
            return None
        return Finding(
            reason="The broker does not let this account trade (canTrade is false)",
            decisions=self._decisions(),
            figures=(
                ("canTrade", "false"),
                ("known from", "the user hub" if isinstance(event, AccountChanged) else "a reading"),
                ("positions", str(len(state.positions))),
                ("working orders", str(len(state.working_orders))),
            ),
        )

    def keeps(self, lock: Lockout, state: AccountState) -> bool:
        """The lock goes on while the account may not trade."""
        return not self.auto_unlock_on_restore or state.account is None or not state.account.can_trade

    def blind(self, state: AccountState, at: datetime) -> str | None:
        """The account's row has not been told yet."""
        return None if state.account is not None else "it is not known yet whether the broker lets the account trade"

    def _locked(self, state: AccountState) -> bool:
        if self.enforcement == "alert_only":
            return False
        return any(lock.rule == NAME and (self.auto_unlock_on_restore or not lock.condition) for lock in state.lockouts)

    def _decisions(self) -> tuple[Decision, ...]:
        if self.enforcement == "alert_only":
            return ()
        return LockOut(None, condition=RESTORED if self.auto_unlock_on_restore else ""), Flatten()
