"""What the rules in force on an account contradict, with the line at which to put it right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import frozen

from flatguard.model.account import Terms
from flatguard.model.ids import AccountId
from flatguard.model.products import product
from flatguard.rules._rule import Contradiction, Rule
from flatguard.settings.lines import Place
from flatguard.settings.structure import Reading


@frozen
class Contradictions:
    """Asks every rule in force. ``places`` are those of an account's rule and key; the key "" is the rule's table."""

    reading: Reading
    places: Mapping[tuple[int, str, str], Place]

    def of(self, rules: Mapping[AccountId, Mapping[str, Rule]], terms: Terms) -> Iterator[str]:
        """Return what is probably not meant, in the order of the file; refuse in the reading what cannot be meant.

        What the accounts have in common is told once.
        """
        told: dict[tuple[Place, str, bool], list[AccountId]] = {}
        for account_id, in_force in rules.items():
            for name, rule in in_force.items():
                others = {other: known for other, known in in_force.items() if other != name}
                for found in _asked(rule, others, terms):
                    place = self._place(account_id, name, found)
                    told.setdefault((place, found.text, found.refused), []).append(account_id)
        for (place, text, refused), accounts in sorted(told.items(), key=lambda item: self.reading.line(item[0][0])):
            if place[0] == "rules" and len(accounts) < len(rules):
                text += f" (account {', '.join(map(str, accounts))})"
            if refused:
                self.reading.refuse(place, text)
            else:
                yield f"{self.reading.file}:{self.reading.line(place)}: {self.reading.name(place)}: {text}"

    def _place(self, account_id: AccountId, rule: str, found: Contradiction) -> Place:
        """Return where it is written; a key that is not, or a product that has another name there, is named anyway."""
        known = self.places.get((account_id, rule, found.key))
        place = (*self.places[account_id, rule, ""], found.key) if known is None else known
        if not found.entry:
            return place
        within = [at[len(place)] for at in self.reading.lines if at[: len(place)] == place and len(at) > len(place)]
        return (*place, next((key for key in within if _same(key, found.entry)), found.entry))


def _asked(rule: Rule, others: Mapping[str, Rule], terms: Terms) -> tuple[Contradiction, ...]:
    try:
        return tuple(rule.contradictions(others, terms))
    except Exception as error:  # noqa: BLE001  a rule that cannot say what it contradicts may guard all the same
        return (Contradiction("", f"cannot say what it contradicts: {type(error).__name__}: {error}"),)


def _same(key: str | int, entry: str) -> bool:
    return str(key) == entry or product(str(key)) == entry
