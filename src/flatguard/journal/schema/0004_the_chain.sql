-- Which journal this is, wherever its file goes.
CREATE TABLE journal (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 32)
) STRICT;

INSERT INTO journal (id) VALUES (lower(hex(randomblob(16))));

-- The steps of the schema that were taken. Times are RFC 3339 text in UTC, here and everywhere in the journal.
CREATE TABLE migration (
    version INTEGER PRIMARY KEY CHECK (version > 0),
    applied_at TEXT NOT NULL,
    description TEXT NOT NULL
) STRICT;

-- What was written together, each link over the hash of the one before; see journal/chain.py.
-- "number" is that of the last link where a row stands for several, "first" and "since" belong to the first of them.
CREATE TABLE chain (
    number INTEGER PRIMARY KEY CHECK (number > 0),
    first INTEGER NOT NULL CHECK (first > 0 AND first <= number),
    since TEXT NOT NULL,
    at TEXT NOT NULL,
    run INTEGER REFERENCES run (id),
    tape_from INTEGER,
    tape_upto INTEGER CHECK (tape_upto >= tape_from),
    tape TEXT NOT NULL,
    others TEXT NOT NULL,
    digest TEXT NOT NULL,
    before TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;

CREATE INDEX chain_by_tape ON chain (tape_upto) WHERE tape_upto IS NOT NULL;
