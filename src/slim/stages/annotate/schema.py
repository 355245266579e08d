"""The tables of a store, version by version: an older file is upgraded by the steps that it lacks."""

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"

_FIRST = (
    """
    CREATE TABLE judgements (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        image INTEGER NOT NULL CHECK (typeof(image) = 'integer' AND image >= 0),
        answer TEXT NOT NULL CHECK (answer IN ('core', 'spurious', 'unsure', 'undone')),
        annotator TEXT NOT NULL CHECK (typeof(annotator) = 'text' AND annotator <> ''),
        seconds REAL NOT NULL CHECK (typeof(seconds) = 'real' AND seconds >= 0),
        time TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    )
    """,
    "CREATE INDEX judgements_of_image ON judgements (image, annotator, id)",
    """
    CREATE TRIGGER judgements_never_change BEFORE UPDATE ON judgements
    BEGIN SELECT RAISE(ABORT, 'judgements are append-only'); END
    """,
    """
    CREATE TRIGGER judgements_never_go BEFORE DELETE ON judgements
    BEGIN SELECT RAISE(ABORT, 'judgements are append-only'); END
    """,
    # INSERT OR REPLACE deletes without firing the trigger above.
    """
    CREATE TRIGGER judgements_never_replaced BEFORE INSERT ON judgements
    WHEN EXISTS (SELECT 1 FROM judgements WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'judgements are append-only'); END
    """,
)
# Version 2: each post from the page has a unique key, so that sending it again changes nothing.
_SECOND = (
    """
    CREATE TABLE posts (
        key TEXT PRIMARY KEY NOT NULL CHECK (typeof(key) = 'text' AND key <> ''),
        judgement INTEGER REFERENCES judgements (id)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE flags (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        image INTEGER NOT NULL CHECK (typeof(image) = 'integer' AND image >= 0),
        note TEXT NOT NULL CHECK (typeof(note) = 'text'),
        annotator TEXT NOT NULL CHECK (typeof(annotator) = 'text' AND annotator <> ''),
        time TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    )
    """,
    """
    CREATE TABLE added (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        image INTEGER NOT NULL UNIQUE CHECK (typeof(image) = 'integer' AND image >= 0),
        time TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    )
    """,
    *(
        f"""
        CREATE TRIGGER {table}_never_{what} BEFORE {event} ON {table}
        BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END
        """
        for table in ("posts", "flags", "added")
        for what, event in (("change", "UPDATE"), ("go", "DELETE"))
    ),
)
# Version 3: an answer may settle a disagreement.
_THIRD = (
    "ALTER TABLE judgements ADD COLUMN settles INTEGER NOT NULL DEFAULT 0 CHECK (settles IN (0, 1))",
    "CREATE INDEX settled_images ON judgements (image, id) WHERE settles",
)

# Version 4: an answer may say where the object is: all four values, or none.
_SHARE = "typeof({0}) = 'real' AND {0} BETWEEN 0 AND 1"
_FOURTH = (
    f"""
    ALTER TABLE judgements ADD COLUMN x REAL
    CHECK (x IS NULL OR ({_SHARE.format("x")} AND answer IN ('core', 'spurious')))
    """,
    *(
        f"""
        ALTER TABLE judgements ADD COLUMN {column} REAL
        CHECK (({column} IS NULL) = (x IS NULL) AND ({column} IS NULL OR ({_SHARE.format(column)})))
        """
        for column in ("y", "width", "height")
    ),
)

STEPS = (_FIRST, _SECOND, _THIRD, _FOURTH)
"""The statements that turn each version into the next."""

VERSION = len(STEPS)
