-- The tape: every event that was folded, in order, with what judging it gave.
CREATE TABLE tape (
    seq INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    event TEXT NOT NULL,
    judged TEXT
) STRICT;

CREATE TABLE breach (
    id TEXT NOT NULL,
    account INTEGER NOT NULL,
    rule TEXT NOT NULL,
    at TEXT NOT NULL,
    cause TEXT NOT NULL,
    reason TEXT NOT NULL,
    figures TEXT NOT NULL,
    decisions TEXT NOT NULL,
    run INTEGER NOT NULL,
    PRIMARY KEY (account, id)
) STRICT;

-- One row per account, rule and scope; the row says until when.
CREATE TABLE lockout (
    account INTEGER NOT NULL,
    rule TEXT NOT NULL,
    scope TEXT NOT NULL,
    since TEXT NOT NULL,
    until TEXT,
    reason TEXT NOT NULL,
    breach TEXT NOT NULL,
    PRIMARY KEY (account, rule, scope)
) STRICT;

CREATE TABLE step (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,
    breaches TEXT NOT NULL,
    action TEXT NOT NULL,
    contract TEXT NOT NULL,
    detail TEXT NOT NULL,
    sent_at TEXT NOT NULL,
    answered_at TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;

CREATE TABLE proof (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,
    breaches TEXT NOT NULL,
    reached_at TEXT NOT NULL,
    proven_at TEXT NOT NULL
) STRICT;

CREATE TABLE checkpoint (
    account INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    state TEXT NOT NULL
) STRICT;

CREATE TABLE standing (
    account INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    started_at TEXT NOT NULL,
    stopped_at TEXT,
    alive_at TEXT NOT NULL,
    version TEXT NOT NULL,
    pid INTEGER NOT NULL,
    accounts TEXT NOT NULL,
    settings TEXT NOT NULL,
    link TEXT NOT NULL
) STRICT;

CREATE INDEX tape_by_account ON tape (account, seq);
CREATE INDEX breach_by_time ON breach (at);
CREATE INDEX step_by_account ON step (account, id);
