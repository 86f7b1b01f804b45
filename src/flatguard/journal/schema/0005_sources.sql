-- Where the figures of a breach came from, and how old they were.
ALTER TABLE breach ADD COLUMN sources TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(sources));
