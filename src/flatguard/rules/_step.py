"""What judging one event gave, as the journal writes it down. The daemon takes this step, and so does a replay."""

from __future__ import annotations

from attrs import frozen

from flatguard.model.account import AccountState
from flatguard.model.decisions import Breach
from flatguard.model.entries import Judged
from flatguard.model.events import Event
from flatguard.rules._book import RuleBook


@frozen
class Step:
    """The state after an event, what is written down of it, and the breaches that were found earlier and still hold."""

    state: AccountState
    judged: Judged
    standing: tuple[Breach, ...]


def step(before: AccountState, event: Event, folded: AccountState, book: RuleBook) -> Step:
    """Judge ``folded``, which the ledger made of ``before`` and ``event``. Rules that raise are in ``failed``."""
    folded, unfolded = book.fold(folded, event)
    judgement = book.judge(folded, event)
    after = judgement.state
    judged = Judged(
        account_id=before.id,
        event=event,
        found=judgement.found,
        cleared=judgement.cleared,
        failed=tuple((failure.rule, failure.error) for failure in (*unfolded, *judgement.failed)),
        locks=after.lockouts if after.lockouts != before.lockouts else None,
        near=judgement.near,
        warned=after.warned if after.warned != folded.warned else None,
    )
    return Step(after, judged, judgement.standing)
