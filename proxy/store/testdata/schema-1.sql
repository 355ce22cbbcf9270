-- A file as schema version 1 was released. Never changed.
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = 1315266930;
CREATE TABLE schema (version INTEGER NOT NULL);
INSERT INTO schema VALUES (1);

-- What hangs together by previous_response_id, and when it last grew.
CREATE TABLE trees (
	key     INTEGER PRIMARY KEY,
	touched INTEGER NOT NULL
);
CREATE INDEX trees_touched ON trees (touched);

CREATE TABLE responses (
	key          INTEGER PRIMARY KEY,
	tree         INTEGER NOT NULL,
	parent       INTEGER, -- key of the previous response, NULL when there is none or it is gone
	owner        TEXT NOT NULL,
	id           TEXT NOT NULL,
	previous     TEXT NOT NULL,
	conversation TEXT NOT NULL,
	model        TEXT NOT NULL,
	status       TEXT NOT NULL,
	created      INTEGER NOT NULL, -- Unix milliseconds, as all times here
	background   INTEGER NOT NULL,
	appended     INTEGER NOT NULL, -- its items are in the conversation
	deleted      INTEGER NOT NULL, -- a tombstone, kept for those that build on it
	bytes        INTEGER NOT NULL, -- of resource and items
	resource     BLOB NOT NULL,
	UNIQUE (owner, id)
);
CREATE INDEX responses_parent ON responses (parent) WHERE parent IS NOT NULL;
CREATE INDEX responses_tree ON responses (tree);
CREATE INDEX responses_created ON responses (created) WHERE deleted = 0;
CREATE INDEX responses_unfinished ON responses (key) WHERE status IN ('queued', 'in_progress') AND deleted = 0;

CREATE TABLE conversations (
	key      INTEGER PRIMARY KEY,
	owner    TEXT NOT NULL,
	id       TEXT NOT NULL,
	created  INTEGER NOT NULL,
	touched  INTEGER NOT NULL,
	items    INTEGER NOT NULL,
	bytes    INTEGER NOT NULL,
	metadata BLOB NOT NULL,
	UNIQUE (owner, id)
);
CREATE INDEX conversations_touched ON conversations (touched);

CREATE TABLE items (
	key    INTEGER PRIMARY KEY,
	holder INTEGER NOT NULL, -- key of a response or conversation
	side   INTEGER NOT NULL, -- 0 input and 1 output of a response, 2 of a conversation
	place  INTEGER NOT NULL, -- order within holder and side
	owner  TEXT NOT NULL,    -- empty when id is NULL
	id     TEXT,             -- NULL when it cannot be looked up
	json   BLOB NOT NULL
);
CREATE UNIQUE INDEX items_place ON items (holder, side, place);
CREATE INDEX items_id ON items (owner, id) WHERE id IS NOT NULL;
CREATE UNIQUE INDEX items_member ON items (holder, id) WHERE side = 2 AND id IS NOT NULL;

INSERT INTO trees VALUES (7, 1764000000000);
INSERT INTO responses VALUES (1, 7, NULL, 'alice', 'resp_1', '', '', 'near/m', 'completed', 1764000000000, 0, 0, 1, 28, x'');
INSERT INTO responses VALUES (2, 7, 1, 'alice', 'resp_2', 'resp_1', '', 'near/m', 'completed', 1764000000000, 0, 0, 0, 43, CAST('{"id":"resp_2"}' AS BLOB));
INSERT INTO conversations VALUES (1, 'alice', 'conv_1', 1764000000000, 1764000000000, 1, 14, CAST('{}' AS BLOB));
INSERT INTO items (holder, side, place, owner, id, json) VALUES
	(1, 0, 0, '', NULL, CAST('{"id":"msg_1"}' AS BLOB)),
	(1, 1, 0, '', NULL, CAST('{"id":"msg_2"}' AS BLOB)),
	(2, 0, 0, 'alice', 'msg_3', CAST('{"id":"msg_3"}' AS BLOB)),
	(2, 1, 0, 'alice', 'msg_4', CAST('{"id":"msg_4"}' AS BLOB)),
	(1, 2, 0, 'alice', 'msg_5', CAST('{"id":"msg_5"}' AS BLOB));
