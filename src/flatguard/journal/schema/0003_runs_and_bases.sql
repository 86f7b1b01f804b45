-- Every row of the tape knows its run: 0 for those written before there was this column.
ALTER TABLE tape ADD COLUMN run INTEGER NOT NULL DEFAULT 0 CHECK (run >= 0);

-- States to begin folding at: of each run and of each trading day the first that was written down.
-- "seq" is the last row that the state stands for, "at" when that was, "day" the trading day's label.
CREATE TABLE base (
    account INTEGER NOT NULL,
    seq INTEGER NOT NULL CHECK (seq >= 0),
    run INTEGER NOT NULL CHECK (run >= 0),
    day TEXT NOT NULL,
    at TEXT NOT NULL,
    state TEXT NOT NULL CHECK (json_valid(state)),
    PRIMARY KEY (account, seq)
) STRICT;

INSERT INTO base (account, seq, run, day, at, state)
SELECT account, seq, 0, coalesce(json_extract(state, '$.today.label'), ''), coalesce(
    (SELECT at FROM tape WHERE tape.account = checkpoint.account AND tape.seq <= checkpoint.seq ORDER BY seq DESC LIMIT 1),
    '1970-01-01T00:00:00+00:00'
), state FROM checkpoint WHERE json_valid(state);
