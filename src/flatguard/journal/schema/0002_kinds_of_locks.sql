-- A lock may wait for a condition, and one rule may lock an account in several ways.
CREATE TABLE lockout_new (
    account INTEGER NOT NULL,
    rule TEXT NOT NULL,
    scope TEXT NOT NULL,
    kind TEXT NOT NULL,
    condition TEXT NOT NULL,
    since TEXT NOT NULL,
    until TEXT,
    reason TEXT NOT NULL,
    breach TEXT NOT NULL,
    PRIMARY KEY (account, rule, scope, kind, condition)
) STRICT;

INSERT INTO lockout_new (account, rule, scope, kind, condition, since, until, reason, breach)
SELECT account, rule, scope, 'hard', '', since, until, reason, breach FROM lockout;

DROP TABLE lockout;

ALTER TABLE lockout_new RENAME TO lockout;
