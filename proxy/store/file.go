package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// applicationID marks a file as ours, at offset 68 of its header: "Near".
const applicationID = 0x4e656172

// steps bring a file from one schema version to the next; the first makes it.
// A step that has been released is never changed.
func steps() []string { return []string{schema1} }

const schema1 = `
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
`

// address is the driver's name of the file or of a new memory.
func address(opt Options) string {
	const common = "_pragma=busy_timeout(5000)&_pragma=trusted_schema(0)&_pragma=temp_store(2)"
	switch {
	case opt.Path == "":
		// SQLite's memdb shares one memory among the connections that name it.
		return "file:/nearside-" + rand.Text() + "?vfs=memdb&" + common
	case opt.rollback:
		// On Windows a WAL's shared memory has crashed processes (cznic/sqlite#221).
		return fileURI(opt.Path) + "?" + common + "&_pragma=journal_mode(DELETE)&_pragma=synchronous(FULL)"
	}
	return fileURI(opt.Path) + "?" + common + "&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"
}

func fileURI(path string) string {
	path = filepath.ToSlash(path)
	if filepath.VolumeName(path) != "" {
		path = "/" + path
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath()
}

// prepare sees to it that opt.Path is a sound file of ours that no other
// process has open.
func prepare(opt Options) (unlock func(), err error) {
	if opt.Path == "" {
		return func() {}, nil
	}
	path, err := filepath.Abs(opt.Path)
	if err != nil {
		return nil, fmt.Errorf("stored responses: %w", err)
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("stored responses: "+format+" (set proxy.dataDir or proxy.dataDir)", args...)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fail("make the folder: %w", err)
	}
	release, err := lock(path + ".lock")
	if err != nil {
		return nil, fail("lock %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	switch info, serr := os.Stat(path); {
	case errors.Is(serr, fs.ErrNotExist) || serr == nil && info.Mode().IsRegular() && info.Size() == 0:
		if err := build(path, opt); err != nil {
			return nil, fail("make %s: %w", path, err)
		}
	case serr != nil:
		return nil, fail("%w", serr)
	case !info.Mode().IsRegular():
		return nil, fail("%s is not a file", path)
	default:
		if err := check(path); err != nil {
			return nil, fail("%s %w; it was left as it is: move it away, or name another", path, err)
		}
	}
	return release, nil
}

// build makes the file under another name and moves it into place, so that a
// process that dies leaves either no file or a whole one.
func build(path string, opt Options) error {
	for _, log := range []string{path + "-wal", path + "-journal"} {
		if _, err := os.Stat(log); err == nil {
			// SQLite would apply it to the new file.
			return fmt.Errorf("the log %s is there without its file: bring the file back, or move the log away", log)
		}
	}
	temp := path + ".new"
	for _, name := range []string{temp, temp + "-journal"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", fileURI(temp))
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(context.Background())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := create(conn, opt); err != nil {
		return err
	}
	if err := errors.Join(conn.Close(), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename last. Not every system can sync a folder.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	_ = d.Sync()
	return d.Close()
}

// create makes the schema of a new file or memory. It is done before the file
// has a log, so that the header says at once whose it is.
func create(conn *sql.Conn, opt Options) error {
	ctx := context.Background()
	// auto_vacuum cannot be changed once there is a table.
	for _, q := range []string{"PRAGMA auto_vacuum = INCREMENTAL", fmt.Sprintf("PRAGMA application_id = %d", applicationID)} {
		if _, err := conn.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return inTx(conn, func() error { return advance(conn, opt.steps, 0) })
}

// check says what is wrong with the file. It changes nothing in it.
func check(path string) error {
	var head [100]byte
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	_, err = io.ReadFull(f, head[:])
	_ = f.Close()
	if err != nil || !strings.HasPrefix(string(head[:]), "SQLite format 3\x00") {
		return errors.New("is damaged or no SQLite file")
	}
	if binary.BigEndian.Uint32(head[68:]) != applicationID {
		return errors.New("is another program's SQLite file")
	}
	// SQLite gives its log the mode of the file.
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("cannot be made private: %w", err)
	}
	db, err := sql.Open("sqlite", fileURI(path)+"?mode=ro&_pragma=busy_timeout(5000)&_pragma=cache_size(-8192)")
	if err != nil {
		return fmt.Errorf("cannot be opened: %w", err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRow("PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return fmt.Errorf("is damaged: %w", err)
	}
	if verdict != "ok" {
		return fmt.Errorf("is damaged: %s", verdict)
	}
	return nil
}

// migrate brings the schema up to date, all steps or none.
func migrate(conn *sql.Conn, opt Options) error {
	var version int
	if err := conn.QueryRowContext(context.Background(), "SELECT version FROM schema").Scan(&version); err != nil {
		return fmt.Errorf("read the schema version: %w", err)
	}
	switch {
	case version > len(opt.steps) || version < 1:
		return fmt.Errorf("it has schema version %d, and this program knows 1 to %d: run the program that wrote it, or set proxy.dataDir to another file",
			version, len(opt.steps))
	case version == len(opt.steps):
		return nil
	}
	return inTx(conn, func() error { return advance(conn, opt.steps, version) })
}

// advance takes the steps after version.
func advance(conn *sql.Conn, steps []string, version int) error {
	ctx := context.Background()
	for ; version < len(steps); version++ {
		if _, err := conn.ExecContext(ctx, steps[version]); err != nil {
			return fmt.Errorf("bring the schema to version %d: %w", version+1, err)
		}
		if _, err := conn.ExecContext(ctx, "UPDATE schema SET version = ?", version+1); err != nil {
			return fmt.Errorf("bring the schema to version %d: %w", version+1, err)
		}
	}
	return nil
}

func inTx(conn *sql.Conn, f func() error) error {
	ctx := context.Background()
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		_, err = conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		_, _ = conn.ExecContext(ctx, "ROLLBACK")
	}
	return err
}
