"""A journal that cannot be opened yet: it is tried again with every group, and nothing of it is overwritten unread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from attrs import define

from flatguard.errors import FlatguardError
from flatguard.journal.store import Store
from flatguard.model.entries import Entry


@define
class LateStore:
    """Stands for a journal until it can be opened.

    ``id`` is that of the journal that was read, None where there was none; one that was there and could not be read is
    ``unread``, and is not written to: what it holds would be lost under what was begun without it.
    """

    path: Path
    now: datetime
    why: str
    id: str | None = None
    unread: bool = False
    _store: Store | None = None

    def write(self, entries: Iterable[Entry]) -> None:
        """Write ``entries`` once the journal can be opened. Raises sqlite3.Error until then."""
        if self._store is None:
            self._store = self._opened()
            self.id = self._store.id
        self._store.write(entries)

    def close(self) -> None:
        """Close the journal, if it was opened."""
        if self._store is not None:
            self._store.close()

    def _opened(self) -> Store:
        if self.unread:
            raise sqlite3.OperationalError(f"{self.why}; what it holds is not known: once that is mended, start again")
        if self.id is not None and not self.path.exists():
            raise sqlite3.OperationalError(f"the journal {self.path} is gone")
        try:
            store = Store.open(self.path, self.now)
        except FlatguardError as error:
            raise sqlite3.OperationalError(str(error)) from None
        if self.id is not None and store.id != self.id:
            store.close()
            raise sqlite3.OperationalError(f"the journal {self.path} is not the one that was read at the start")
        return store
