"""What a person sees of the demo: one screen that changes, or plain lines where there is no terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import define, field
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

STYLES = {"PROTECTED": "bold white on green", "SHADOW": "bold black on yellow"}
ALARM = "bold white on red"
LAST_LINES = 12


@define
class View:
    """The live picture of one account, drawn from its standing and from what has been said so far."""

    console: Console
    lines: deque[Text] = field(factory=lambda: deque(maxlen=LAST_LINES))

    def add(self, sentence: str, style: str = "") -> None:
        """Take one more line of what happens."""
        self.lines.append(Text(sentence, style=style, overflow="ellipsis", no_wrap=True))

    def draw(self, standing: Mapping[str, Any], now: datetime, prices: Mapping[str, str]) -> Group:
        """Return the screen for this moment."""
        return Group(
            self._head(standing),
            self._facts(standing, prices),
            *self._locks(standing, now),
            Panel(Group(*self.lines), title="what happens", border_style="dim"),
        )

    def _head(self, standing: Mapping[str, Any]) -> Text:
        level = standing["protection"]
        head = Text(f" {level} ", style=STYLES.get(level, ALARM))
        head.append(f"  account {standing['id']} {standing['name'] or ''}", style="bold")
        head.append(f"  {standing['reason']}", style="dim")
        return head

    def _facts(self, standing: Mapping[str, Any], prices: Mapping[str, str]) -> Table:
        table = Table.grid(padding=(0, 3))
        for _ in range(4):
            table.add_column()
        table.add_row(
            f"balance {standing['balance'] or '?'} USD",
            f"realised today {standing['realized_pnl'] or '?'}",
            f"open {standing['unrealized_pnl'] or '?'}",
            "  ".join(f"{name} {price}" for name, price in prices.items()),
        )
        for limit in standing["limits"]:
            table.add_row(limit["rule"], f"{limit['value']} of {limit['limit']}", f"{limit['distance']} left", "")
        for position in standing["positions"]:
            table.add_row(
                f"position {position['size']:+d} {position['contract']}",
                f"at {position['average_price']}",
                f"mark {position['mark'] or '?'}",
                f"open {position['open_pnl'] or '?'}",
            )
        for order in standing["working_orders"]:
            price = order["limit_price"] or order["stop_price"] or "market"
            table.add_row(f"order {order['side']} {order['remaining']} {order['contract']}", order["type"], price, "")
        return table

    def _locks(self, standing: Mapping[str, Any], now: datetime) -> list[Text]:
        texts = []
        for lock in standing["lockouts"]:
            left = "" if lock["until"] is None else countdown(datetime.fromisoformat(lock["until"]), now)
            texts.append(Text(f" LOCKED by {lock['rule']}, {left} left ", style=ALARM))
        return texts


def countdown(until: datetime, now: datetime) -> str:
    """Return what is left until a moment: 3:07:59."""
    minutes, seconds = divmod(max(0, int((until - now).total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
