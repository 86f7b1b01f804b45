"""What is wanted of an account, from all the breaches under way at once.

Decisions are end states, so they merge: flat absorbs closed, closed absorbs reduced, and the smaller cap wins. What a
rule says now replaces the reductions that it said before; a close once begun is carried out, since what is half closed
may look well again.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, field, frozen

from flatguard.model.decisions import Breach, CloseContract, Flatten, LockOut, ProtectAt, ReduceTo, WithoutOrder
from flatguard.model.ids import ContractId, OrderId


@frozen
class Wanted:
    """The breaches under way: the newest of each rule, and the ids of all that are to be proven together."""

    breaches: Mapping[str, Breach] = field(factory=dict)
    ids: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.breaches)

    @property
    def flat(self) -> bool:
        """Whether the account shall hold nothing at all."""
        return any(Flatten() in breach.decisions for breach in self.breaches.values())

    @property
    def caps(self) -> Mapping[ContractId, int]:
        """The most that may be held, by contract; 0 means closed."""
        caps: dict[ContractId, int] = {}
        for breach in self.breaches.values():
            for decision in breach.decisions:
                match decision:
                    case CloseContract(contract_id):
                        caps[contract_id] = 0
                    case ReduceTo(contract_id, size):
                        caps[contract_id] = min(size, caps.get(contract_id, size))
                    case _:
                        pass
        return caps

    @property
    def without(self) -> frozenset[OrderId]:
        """The orders that shall not work any more, wherever they are."""
        return frozenset(
            decision.order_id
            for breach in self.breaches.values()
            for decision in breach.decisions
            if isinstance(decision, WithoutOrder)
        )

    def including(self, breach: Breach) -> Wanted:
        """Return what is wanted once ``breach`` is told. One that closes and cancels nothing adds nothing."""
        if all(isinstance(decision, LockOut | ProtectAt) for decision in breach.decisions):
            return self
        ids = self.ids if breach.id in self.ids else (*self.ids, breach.id)
        known = self.breaches.get(breach.rule)
        lasting = Flatten | CloseContract | WithoutOrder
        begun = tuple(d for d in known.decisions if isinstance(d, lasting)) if known is not None else ()
        decisions = (*breach.decisions, *(d for d in begun if d not in breach.decisions))
        return evolve(self, breaches={**self.breaches, breach.rule: evolve(breach, decisions=decisions)}, ids=ids)

    def without_reductions_of(self, rule: str) -> Wanted:
        """Return what is wanted once the condition of ``rule`` has cleared by itself.

        A reduction has then become needless. A close has not: part of it may be what cleared the condition.
        """
        breach = self.breaches.get(rule)
        if breach is None or not all(isinstance(decision, ReduceTo) for decision in breach.decisions):
            return self
        return evolve(
            self,
            breaches={name: b for name, b in self.breaches.items() if name != rule},
            ids=tuple(i for i in self.ids if i != breach.id),
        )
