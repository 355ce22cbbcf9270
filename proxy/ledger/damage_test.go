package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

// damage writes over a file's pages behind the first.
func damage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(4096); at < info.Size(); at += 64 {
		if _, err := f.WriteAt([]byte("damaged! damaged! damaged! damag"), at); err != nil {
			t.Fatal(err)
		}
	}
}

// TestForeignFilesAreLeftAlone: neither another program's file nor one of a later
// version is written over or moved.
func TestForeignFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	theirs := filepath.Join(dir, "theirs.db")
	f := func(statements ...string) {
		t.Helper()
		db, err := sql.Open("sqlite", address(theirs))
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range statements {
			if _, err := db.Exec(q); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Path: theirs, SetAside: true, Log: zerolog.Nop()}); !errors.Is(err, ErrForeign) {
			t.Errorf("after %q: %v", statements, err)
		}
		if _, err := OpenReader(theirs); !errors.Is(err, ErrForeign) {
			t.Errorf("a reader after %q: %v", statements, err)
		}
		if names, _ := filepath.Glob(theirs + ".damaged*"); len(names) != 0 {
			t.Errorf("it was moved to %q", names)
		}
	}
	f("CREATE TABLE a (b)")
	f(fmt.Sprint("PRAGMA application_id = ", applicationID), "PRAGMA user_version = 99")
	if _, err := OpenReader(filepath.Join(dir, "none.db")); err == nil {
		t.Error("a ledger that is not there is read")
	}
}

// TestDamagedFile is refused with its name, or moved aside where that is wanted;
// what it held is still there to be looked at.
func TestDamagedFile(t *testing.T) {
	f := func(what string, break_ func(path string)) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "ledger.db")
		l := open(t, Options{Path: path, MaxAge: -1})
		for i := range 500 {
			l.Add(sample(i, noon))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		break_(path)
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Path: path, Log: zerolog.Nop()}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: it is taken, or its name is not said: %v", what, err)
		}
		if is, err := os.ReadFile(path); err != nil || string(is) != string(was) {
			t.Errorf("%s: a file that is refused was changed, %v", what, err)
		}
		l = open(t, Options{Path: path, MaxAge: -1, SetAside: true, Now: func() time.Time { return noon }})
		l.Add(sample(1, noon))
		flushed(t, l)
		if n := len(all(t, l)); n != 1 {
			t.Errorf("%s: %d rows in the new file", what, n)
		}
		if aside, err := os.ReadFile(l.Aside()); err != nil || string(aside) != string(was) {
			t.Errorf("%s: what was moved aside is not what was there: %v", what, err)
		}
	}
	f("no database", func(path string) {
		if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	f("damaged pages", func(path string) { damage(t, path) })
	f("cut off", func(path string) {
		if err := os.Truncate(path, 5000); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDamageWhileItIsWritten: the file goes bad under a running proxy. The rows go
// to a new file, and readers read that one.
func TestDamageWhileItIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, Options{Path: path, MaxAge: -1, SetAside: true})
	for i := range 500 {
		l.Add(sample(i, noon))
	}
	flushed(t, l)
	if _, err := l.db.Load().Exec("SELECT 1"); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", address(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	damage(t, path)
	// Another process' write tells the writer that its cached pages are stale.
	for i := 0; ; i++ {
		l.Add(sample(1000+i, noon))
		flushed(t, l)
		names, err := filepath.Glob(path + ".damaged-*")
		if err != nil {
			t.Fatal(err)
		}
		if len(names) > 0 {
			break
		}
		if i == 2000 {
			t.Fatal("2000 rows were written to a damaged file")
		}
	}
	got := all(t, l)
	if len(got) == 0 || got[0].ID == sample(0, noon).ID {
		t.Errorf("%d rows in the new file", len(got))
	}
	if st := l.Stats(); st.Lost != 0 || st.Waiting != 0 {
		t.Errorf("%+v: rows were lost", st)
	}
}

// TestDamageThatCannotBeMovedAside: rows wait until there can be a new file, and are in
// it then.
func TestDamageThatCannotBeMovedAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, Options{Path: path, MaxAge: -1, SetAside: true, Now: func() time.Time { return noon }})
	for i := range 500 {
		l.Add(sample(i, noon))
	}
	flushed(t, l)
	inTheWay := path + ".damaged-" + noon.UTC().Format("20060102T150405.000")
	if err := os.MkdirAll(filepath.Join(inTheWay, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.inside(context.Background(), func(w *writer) {
		if err := w.anew(errDamaged); err == nil {
			t.Error("it was moved to where something is")
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600), os.Remove(path+"-wal"), os.Remove(path+"-shm")); err != nil {
		t.Fatal(err)
	}
	l.Add(sample(1000, noon))
	flushed(t, l)
	if st := l.Stats(); st.Waiting != 1 || st.Lost+st.Failed != 0 {
		t.Fatalf("%+v while it cannot be moved", st)
	}
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	flushed(t, l)
	if got := all(t, l); len(got) != 1 || got[0].ID != sample(1000, noon).ID {
		t.Errorf("%d rows in the new file, want the one that waited: %+v", len(got), l.Stats())
	}
}

// TestFileThatIsTakenAway: somebody removes the file, or puts a copy of it back, under
// a running proxy. What comes then is in the file that is there.
func TestFileThatIsTakenAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, Options{Path: path, MaxAge: -1})
	add := func(i, want int) {
		t.Helper()
		l.Add(sample(i, noon))
		flushed(t, l)
		r, err := OpenReader(path) // what the next start will find
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if got := len(all(t, r)); got != want || len(all(t, l)) != want {
			t.Errorf("row %d: %d rows in the file and %d in what is read of it, want %d", i, got, len(all(t, l)), want)
		}
	}
	add(0, 1)
	add(1, 2)
	for _, tail := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + tail); err != nil && tail == "" {
			t.Fatal(err)
		}
	}
	add(2, 1)
	other := filepath.Join(t.TempDir(), "copy.db")
	backup := open(t, Options{Path: other, MaxAge: -1})
	for i := range 5 {
		backup.Add(sample(i, noon))
	}
	if err := backup.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	for _, tail := range []string{"-wal", "-shm"} {
		_ = os.Remove(path + tail)
	}
	add(6, 6)
}

// TestFullDiskLosesNothingSoon: rows wait until there is room again.
func TestFullDiskLosesNothingSoon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, err := Open(Options{Path: path, MaxAge: -1, Log: zerolog.Nop(), Sweep: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	limit := func(pages int) { // as a full disk looks to SQLite
		t.Helper()
		err := l.inside(context.Background(), func(w *writer) {
			if _, err := w.db.Exec(fmt.Sprint("PRAGMA max_page_count = ", pages)); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // which is to say: no more than there are
	const rows = 5000
	for i := range rows {
		if l.Add(sample(i, noon)); i < 100 {
			flushed(t, l)
		}
	}
	flushed(t, l)
	flushed(t, l)
	blocks := func() (n int) {
		t.Helper()
		if err := l.db.Load().QueryRow("SELECT count(*) FROM blocks").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	was, before := l.Stats(), blocks()
	if st := l.Stats(); st.Waiting+int(st.Written) != rows || st.Waiting < rows-100 || st.Retries < 2 || st.Lost+st.Failed != 0 {
		t.Errorf("%+v on a full disk", st)
	}
	limit(1 << 20)
	flushed(t, l)
	if st := l.Stats(); st.Waiting != 0 || st.Written != rows || len(all(t, l)) != rows {
		t.Errorf("%+v and %d rows when there was room again", st, len(all(t, l)))
	}
	if sum := one(t, l, Query{}); sum.Exchanges != rows {
		t.Errorf("the sums are of %d exchanges: a write that failed has left something", sum.Exchanges)
	}
	if got, want := blocks()-before, (was.Waiting+blockRows-1)/blockRows; got > 2*want {
		t.Errorf("%d rows that waited are in %d blocks, want about %d: one for each write that failed?", was.Waiting, got, want)
	}
}

// TestCloseOnAFullDiskCounts the rows that are in no file.
func TestCloseOnAFullDiskCounts(t *testing.T) {
	l, err := Open(Options{Path: filepath.Join(t.TempDir(), "ledger.db"), MaxAge: -1, Log: zerolog.Nop(), Sweep: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.inside(context.Background(), func(w *writer) {
		if _, err := w.db.Exec("PRAGMA max_page_count = 1"); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	const rows = blockRows + 100
	for i := range rows {
		l.Add(sample(i, noon))
	}
	flushed(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if st := l.Stats(); st.Failed != rows || st.Waiting+int(st.Written) != 0 {
		t.Errorf("%+v, want %d failed", st, rows)
	}
}

// version1 is the schema of before, one SQLite row for each exchange.
const version1 = `
CREATE TABLE exchanges (
	key INTEGER PRIMARY KEY, at INTEGER NOT NULL, id TEXT NOT NULL, client TEXT NOT NULL, requested TEXT NOT NULL, ref TEXT NOT NULL, provider TEXT NOT NULL,
	route TEXT NOT NULL, dialect TEXT NOT NULL, stream INTEGER NOT NULL, status INTEGER NOT NULL, outcome TEXT NOT NULL, code TEXT NOT NULL, input INTEGER NOT NULL,
	output INTEGER NOT NULL, cached INTEGER NOT NULL, cachewrite INTEGER NOT NULL, reasoning INTEGER NOT NULL, reported INTEGER NOT NULL, cost REAL NOT NULL,
	saved REAL NOT NULL, first INTEGER NOT NULL, took INTEGER NOT NULL, attempts INTEGER NOT NULL, trail TEXT NOT NULL);
PRAGMA user_version = 1;
`

const insert1 = `INSERT INTO exchanges (at, id, client, requested, ref, provider, route, dialect, stream, status, outcome, code,
	input, output, cached, cachewrite, reasoning, reported, cost, saved, first, took, attempts, trail) VALUES `

func values1(r *Row) []any {
	return []any{r.At.UnixMilli(), r.ID, r.Key, r.Requested, r.Ref, r.Provider, r.Route, r.Dialect, r.Stream, r.Status, r.Outcome, r.Code,
		r.Input, r.Output, r.Cached, r.CacheWrite, r.Reasoning, r.Reported, r.Cost, r.Saved, r.First.Microseconds(), r.Took.Microseconds(), r.Attempts, r.Trail}
}

func open1(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", address(path)+"&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(fmt.Sprintf("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA application_id = %d; %s", applicationID, version1)); err != nil {
		t.Fatal(err)
	}
	return db
}

// TestVersion1IsBroughtUpToDate with all its rows, and its sums made.
func TestVersion1IsBroughtUpToDate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	db := open1(t, path)
	var want []Row
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for i := range blockRows + 10 {
		r := sample(i, noon.Add(time.Duration(i)*time.Minute))
		r.Queued, r.GapP50, r.GapP95 = 0, 0, 0 // which were not kept
		want = append(want, r)
		if _, err := tx.Exec(insert1+"(?"+strings.Repeat(",?", 23)+")", values1(&r)...); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tx.Commit(), db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReader(path); err == nil || !strings.Contains(err.Error(), "nearside serve brings it up to date") {
		t.Errorf("a reader of version 1: %v", err)
	}
	var log strings.Builder
	l, err := Open(Options{Path: path, MaxAge: -1, Log: zerolog.New(&log)})
	if err != nil {
		t.Fatal(err)
	}
	opt := cmp.Transformer("utc", func(at time.Time) string { return at.UTC().String() })
	if diff := cmp.Diff(want, all(t, l), opt); diff != "" {
		t.Errorf("rows:\n%s", diff)
	}
	if sum := one(t, l, Query{}); sum.Exchanges != blockRows+10 || sum.Input != 100*(blockRows+10) {
		t.Errorf("sums: %+v", sum)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "brought up to date") {
		t.Errorf("the log says nothing: %s", log.String())
	}
}
