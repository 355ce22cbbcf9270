package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"
)

// applicationID marks the file as ours: "Ledg".
const applicationID = 0x4c656467

// schemaVersion is what a file of this program has. Version 1 had one SQLite row
// for each exchange, which cost eight times as much; such a file is brought up to
// date when it is opened.
const schemaVersion = 2

const schema = `
CREATE TABLE IF NOT EXISTS blocks (
	id    INTEGER PRIMARY KEY,
	first INTEGER NOT NULL, -- when the earliest of its exchanges began, Unix milliseconds
	last  INTEGER NOT NULL, -- and the latest
	rows  INTEGER NOT NULL,
	data  BLOB NOT NULL     -- see block.go
);
CREATE INDEX IF NOT EXISTS blocks_last ON blocks (last, first);

-- What sums are kept of.
CREATE TABLE IF NOT EXISTS groups (
	id        INTEGER PRIMARY KEY,
	client    TEXT NOT NULL, -- id of the client's key
	requested TEXT NOT NULL,
	ref       TEXT NOT NULL,
	provider  TEXT NOT NULL,
	route     TEXT NOT NULL,
	outcome   TEXT NOT NULL,
	UNIQUE (client, requested, ref, provider, route, outcome)
);

CREATE TABLE IF NOT EXISTS sums (
	slot      INTEGER NOT NULL, -- quarters of an hour since 1970 UTC: every zone's hours and days begin with one
	grp       INTEGER NOT NULL,
	exchanges INTEGER NOT NULL,
	estimated INTEGER NOT NULL, -- exchanges with tokens that the backend did not say
	attempts  INTEGER NOT NULL,
	input     INTEGER NOT NULL,
	output    INTEGER NOT NULL,
	cached    INTEGER NOT NULL,
	cachewrite INTEGER NOT NULL,
	reasoning INTEGER NOT NULL,
	cost      REAL NOT NULL,    -- USD
	saved     REAL NOT NULL,    -- USD
	firsts    INTEGER NOT NULL, -- exchanges with a first content
	first     INTEGER NOT NULL, -- microseconds to it, all together
	took      INTEGER NOT NULL, -- microseconds
	queued    INTEGER NOT NULL, -- microseconds
	PRIMARY KEY (slot, grp)
) WITHOUT ROWID;
`

// ErrForeign says that a file is not a ledger that this program can read.
var ErrForeign = errors.New("is not a ledger of this version: move it away, or read it with the program that wrote it")

// errOld says that a file must be brought up to date first.
var errOld = errors.New("is a ledger of an earlier version: nearside serve brings it up to date when it starts")

// errDamaged says what a check found.
var errDamaged = errors.New("is damaged")

// damaged says whether an error means that the file itself is not sound.
func damaged(err error) bool {
	var e *sqlite.Error
	if errors.As(err, &e) {
		code := e.Code() & 0xff
		return code == codes.SQLITE_CORRUPT || code == codes.SQLITE_NOTADB
	}
	return errors.Is(err, errDamaged)
}

// Unavailable says whether an error means that the file cannot be had, for a reason
// that is not in the file: another process holds it, there is no room, no right.
func Unavailable(err error) bool {
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case codes.SQLITE_BUSY, codes.SQLITE_LOCKED, codes.SQLITE_FULL, codes.SQLITE_CANTOPEN, codes.SQLITE_READONLY, codes.SQLITE_PERM, codes.SQLITE_IOERR:
			return true
		}
	}
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EROFS)
}

func address(path string) string {
	slashed := filepath.ToSlash(path)
	if filepath.VolumeName(path) != "" {
		slashed = "/" + slashed
	}
	return "file:" + (&url.URL{Path: slashed}).EscapedPath() + "?_pragma=busy_timeout(5000)&_pragma=trusted_schema(0)"
}

// openReader opens a file for reading beside whoever writes it.
func openReader(path string) (*sql.DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", address(path)+"&mode=ro")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(2)
	version, err := versionOf(db)
	if err == nil && version < schemaVersion {
		err = errOld
	}
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return db, nil
}

// versionOf returns the version of a ledger.
func versionOf(db *sql.DB) (version int, err error) {
	var id int
	if err := db.QueryRow("PRAGMA application_id").Scan(&id); err != nil {
		return 0, err
	}
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return 0, err
	}
	if id != applicationID || version < 1 || version > schemaVersion {
		return version, ErrForeign
	}
	return version, nil
}

// openFile opens the file for writing, makes what a new one needs and checks one
// that is there.
func openFile(opt Options) (*sql.DB, error) {
	dsn := "file::memory:?cache=private"
	if opt.Path != "" {
		if err := os.MkdirAll(filepath.Dir(opt.Path), 0o700); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(opt.Path, os.O_CREATE|os.O_RDWR, 0o600) // who asked what is nobody else's business
		if err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
		dsn = address(opt.Path) + "&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=journal_size_limit(16777216)"
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if err := prepare(db, opt); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("%s: %w", where(opt), err)
	}
	return db, nil
}

func where(opt Options) string {
	if opt.Path == "" {
		return "memory"
	}
	return opt.Path
}

// prepare makes the tables of a new file, brings an old one up to date and refuses
// one that is not ours or not sound.
func prepare(db *sql.DB, opt Options) error {
	var tables int
	if err := db.QueryRow("SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return err
	}
	if tables == 0 {
		// One transaction, so that whoever dies here leaves no half of it; but
		// auto_vacuum cannot be set within one.
		if _, err := db.Exec("PRAGMA auto_vacuum = INCREMENTAL"); err != nil {
			return err
		}
		_, err := db.Exec(fmt.Sprintf("BEGIN IMMEDIATE; PRAGMA application_id = %d; PRAGMA user_version = %d; %s COMMIT;", applicationID, schemaVersion, schema))
		return err
	}
	version, err := versionOf(db)
	if err != nil {
		return err
	}
	var verdict string
	if err := db.QueryRow("PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, verdict)
	}
	if version < schemaVersion {
		return migrate(db, opt)
	}
	return nil
}

// migrate brings a file of version 1 up to date, all of it or nothing.
func migrate(db *sql.DB, opt Options) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(schema); err != nil {
		return err
	}
	p := &pen{groups: map[group]int64{}, inTx: true}
	if err := p.prepare(tx); err != nil {
		return err
	}
	defer p.close()
	total, after := 0, int64(0)
	for b := new(batch); ; {
		rows, last, err := oldRows(tx, after)
		if err != nil {
			return fmt.Errorf("read rows of version 1: %w", err)
		}
		if len(rows) == 0 {
			break
		}
		b.reset()
		for i := range rows {
			b.add(&rows[i])
		}
		if err := p.write(tx, b); err != nil {
			return fmt.Errorf("write rows of version 1 anew: %w", err)
		}
		total, after = total+len(rows), last
	}
	if _, err := tx.Exec(fmt.Sprintf("DROP TABLE exchanges; PRAGMA user_version = %d", schemaVersion)); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	opt.Log.Info().Str("path", where(opt)).Int("rows", total).Int("version", schemaVersion).Msg("the ledger was brought up to date")
	return nil
}

// oldRows reads a batch of a file of version 1.
func oldRows(tx *sql.Tx, after int64) (batch []Row, last int64, err error) {
	rows, err := tx.QueryContext(context.Background(), `SELECT key, at, id, client, requested, ref, provider, route, dialect, stream, status, outcome, code,
		input, output, cached, cachewrite, reasoning, reported, cost, saved, first, took, attempts, trail FROM exchanges WHERE key > ? ORDER BY key LIMIT ?`, after, blockRows)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var r Row
		var at, first, took int64
		if err := rows.Scan(&last, &at, &r.ID, &r.Key, &r.Requested, &r.Ref, &r.Provider, &r.Route, &r.Dialect, &r.Stream, &r.Status, &r.Outcome, &r.Code,
			&r.Input, &r.Output, &r.Cached, &r.CacheWrite, &r.Reasoning, &r.Reported, &r.Cost, &r.Saved, &first, &took, &r.Attempts, &r.Trail); err != nil {
			return nil, 0, err
		}
		r.At, r.First, r.Took = time.UnixMilli(at), time.Duration(first)*time.Microsecond, time.Duration(took)*time.Microsecond
		batch = append(batch, r)
	}
	return batch, last, rows.Err()
}

// setAside moves a damaged file away, with its log, and returns where it is now.
func setAside(path string, now time.Time) (string, error) {
	to := path + ".damaged-" + now.UTC().Format("20060102T150405.000")
	if err := os.Rename(path, to); err != nil {
		return "", err
	}
	for _, tail := range []string{"-wal", "-shm"} {
		if err := os.Rename(path+tail, to+tail); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return to, nil
}
