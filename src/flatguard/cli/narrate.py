"""What the daemon writes down, as sentences for a person: names rather than ids, the exchange's time, what it means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from attrs import define, field

from flatguard.model.account import AccountState
from flatguard.model.decisions import Breach, LimitNear, ProtectAt
from flatguard.model.entries import EndStateProven, Entry, Judged, Standing, StepTaken
from flatguard.model.events import ClosesRefused, ContractRefuted, LinkDown, LinkUp, PictureCorrected
from flatguard.model.ids import AccountId, ContractId

LOUD_AFTER = timedelta(seconds=5)  # an enforcement that lasts longer is told of
ACTIONS = {
    "close": "closing",
    "partial_close": "closing",
    "cancel": "cancelling",
    "place_stop": "placing a stop",
    "move_stop": "moving a stop",
}


@define
class Narrator:
    """Knows the newest ``states``, for names, and the exchange's ``zone``."""

    states: Mapping[AccountId, AccountState]
    zone: ZoneInfo
    _protection: dict[AccountId, tuple[str, bool]] = field(factory=dict)
    _enforcing: dict[AccountId, tuple[str, ...]] = field(factory=dict)

    def sentences(self, entry: Entry) -> list[str]:
        """Return what a person should read of an entry; most say nothing."""
        match entry:
            case Judged(event=LinkUp(at=at, hub=hub), account_id=account_id) if self._first(account_id):
                return [f"{self._clock(at)} {hub} hub connected"]
            case Judged(event=LinkDown(at=at, hub=hub, reason=reason), account_id=account_id) if self._first(
                account_id
            ):
                return [f"{self._clock(at)} {hub} hub lost: {reason}"]
            case Judged(event=PictureCorrected(at=at, account_id=account_id, what=what)):
                return [f"{self._clock(at)} account {account_id}, not told by the hub: {'; '.join(what)}"]
            case Judged(event=ContractRefuted(at=at, contract_id=contract_id, reason=reason), account_id=account_id):
                name = self.states[account_id].label(contract_id)
                return [f"{self._clock(at)} account {account_id}, {name} is not what the broker says it is: {reason}"]
            case Judged(event=ClosesRefused(at=at, account_id=account_id, reason=reason)) if reason is not None:
                return [f"{self._clock(at)} ALERT-ONLY account {account_id}: the broker refuses our closes: {reason}"]
            case Judged(found=found, near=near) if found or near:
                return [*(self._near(each) for each in near), *(self._breach(breach) for breach in found)]
            case StepTaken():
                return [self._step(entry)]
            case Standing():
                return self._standing(entry)
            case EndStateProven():
                return [f"{self._clock(entry.proven_at)} account {entry.account_id}: done, proven by two readings"]
            case _:
                return []

    def _first(self, account_id: AccountId) -> bool:
        """Links concern all accounts; they are told once."""
        return account_id == next(iter(self.states))

    def _standing(self, standing: Standing) -> list[str]:
        """Tell how far an account is guarded, and what is still being tried, whenever that changes.

        That it is not yet read needs no words.
        """
        facts = json.loads(standing.body)
        return [*self._protected(standing, facts), *self._still_trying(standing, facts)]

    def _protected(self, standing: Standing, facts: Mapping[str, Any]) -> list[str]:
        now = (facts["protection"], facts["durable"])
        before = self._protection.get(standing.account_id, ("BLIND", True))
        self._protection[standing.account_id] = now
        if now == before:
            return []
        why = f": {facts['reason']}" if facts["reason"] else ""
        return [f"{self._clock(standing.at)} account {standing.account_id}: {now[0]}{why}"]

    def _still_trying(self, standing: Standing, facts: Mapping[str, Any]) -> list[str]:
        """Tell what lasts, and why, once; and again where that becomes another reason."""
        lasting = [
            entry
            for entry in facts.get("enforcing", ())
            if standing.at - datetime.fromisoformat(entry["since"]) >= LOUD_AFTER
            and (entry["contract"] is not None or entry["reason"])
        ]
        now = tuple(
            f"account {standing.account_id}: STILL ENFORCING {', '.join(entry['rules'])} "
            f"since {self._clock(datetime.fromisoformat(entry['since']))}: {attempt_in_words(entry, self.zone)}"
            for entry in lasting
        )
        before = self._enforcing.get(standing.account_id, ())
        self._enforcing[standing.account_id] = now
        return [f"{self._clock(standing.at)} {line}" for line in now if line not in before]

    def _near(self, near: LimitNear) -> str:
        return f"{self._clock(near.at)} WARNING {near.rule}, account {near.account_id}: {near.text}"

    def _breach(self, breach: Breach) -> str:
        word = "STOP" if _keeps_a_stop(breach) else "BREACH"
        return f"{self._clock(breach.at)} {word} {breach.rule}, account {breach.account_id}: {breach.reason}"

    def _step(self, step: StepTaken) -> str:
        name = self.states[step.account_id].label(ContractId(step.contract_id))
        what = f"{ACTIONS[step.action]} {step.detail} {name}".replace("  ", " ")
        outcome = step.outcome + (f": {step.reason}" if step.reason else "")
        return f"{self._clock(step.sent_at)} account {step.account_id}: {what}: {outcome}"

    def _clock(self, moment: datetime) -> str:
        return f"{moment.astimezone(self.zone):%H:%M:%S.%f}"[:-3]


def attempt_in_words(entry: Mapping[str, Any], zone: ZoneInfo) -> str:
    """Return what an entry of ``enforcing`` tries, how that last went, and what it waits for."""
    if entry["contract"] is None:
        why = f": {entry['reason']}" if entry["reason"] else ""
        return f"the end state seems reached and is not proven yet{why}"
    order = f" order {entry['order_id']}" if entry["order_id"] is not None else ""
    last = ": ".join(filter(None, (entry["outcome"] or "not answered yet", entry["reason"])))
    opens = ""
    if entry["market_opens_at"] is not None:
        moment = datetime.fromisoformat(entry["market_opens_at"]).astimezone(zone)
        opens = f"; waits for the market to open at {moment:%a %H:%M:%S %Z}"
    return f"{ACTIONS[entry['action']]}{order} {entry['contract']}: {last}{opens}"


def _keeps_a_stop(breach: Breach) -> bool:
    """Whether nothing was broken: a stop of ours is to be placed or moved."""
    return any(isinstance(decision, ProtectAt) for decision in breach.decisions)
