"""Which journal guarded an account last, noted outside of it: one that is gone or was exchanged counts as damaged.

One small file for each gateway and account. One that cannot be read or written keeps no account from being guarded.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from flatguard.errors import InvalidSettings
from flatguard.model.ids import AccountId
from flatguard.settings.private_file import read_private, write_private


def _file(folder: Path, rest_url: str, account_id: AccountId) -> Path:
    gateway = hashlib.sha256(rest_url.rstrip("/").lower().encode()).hexdigest()[:12]
    return folder / f"{gateway}-{account_id}.json"


def journal_of(folder: Path | None, rest_url: str, account_id: AccountId) -> str | None:
    """Return the id of the journal that guarded the account last, None where that is not known. Blocks."""
    if folder is None:
        return None
    with suppress(InvalidSettings, OSError, ValueError, LookupError, TypeError):
        known = read_private(_file(folder, rest_url, account_id))
        if known is not None:
            return str(json.loads(known)["journal"])
    return None


def note_journal(folder: Path | None, rest_url: str, account_id: AccountId, journal: str) -> str | None:
    """Note which journal guards the account. Blocks. Return why that failed, None where it did not."""
    if folder is None or journal_of(folder, rest_url, account_id) == journal:
        return None
    try:
        write_private(_file(folder, rest_url, account_id), json.dumps({"journal": journal}))
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return None
