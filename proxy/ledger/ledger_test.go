package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, opt Options) *Ledger {
	t.Helper()
	opt.Log = zerolog.Nop()
	l, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func flushed(t *testing.T, l *Ledger) {
	t.Helper()
	if err := l.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func all(t *testing.T, l *Ledger) (rows []Row) {
	t.Helper()
	if err := l.Rows(context.Background(), Query{}, func(r Row) error { rows = append(rows, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return rows
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func sample(i int, at time.Time) Row {
	return Row{ID: fmt.Sprintf("req_%d", i), At: at, Key: "k1", Requested: "default", Ref: "lmstudio/q", Provider: "lmstudio", Route: "near", Dialect: "chat", Stream: true,
		Status: 200, Outcome: "ok", Input: 100, Output: 20, Cached: 50, CacheWrite: 5, Reasoning: 7, Reported: true, Saved: 0.25, Queued: 20 * time.Millisecond, GapP50: 32 * time.Millisecond, GapP95: 64 * time.Millisecond,
		First: 1500 * time.Microsecond, Took: 3 * time.Second, Attempts: 2, Trail: "a/b=connect_refused, lmstudio/q=ok"}
}

// TestRowsComeBackAsTheyWere, from a file that was closed and opened again, also
// by one who only reads.
func TestRowsComeBackAsTheyWere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "ledger.db")
	l := open(t, Options{Path: path, MaxAge: -1})
	want := []Row{sample(1, noon), sample(2, noon.Add(time.Minute))}
	want[1].Outcome, want[1].Code, want[1].Status, want[1].Reported = "error", "upstream_error", 502, false
	for _, r := range want {
		l.Add(r)
	}
	flushed(t, l)
	reader, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	opt := cmp.Transformer("utc", func(at time.Time) string { return at.UTC().String() })
	if diff := cmp.Diff(want, all(t, reader), opt); diff != "" {
		t.Errorf("a reader beside the writer:\n%s", diff)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, all(t, open(t, Options{Path: path, MaxAge: -1})), opt); diff != "" {
		t.Errorf("after it was opened again:\n%s", diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
}

// TestCloseWritesWhatWaits: a row that was added is not lost by a shutdown.
func TestCloseWritesWhatWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, Options{Path: path, MaxAge: -1})
	const writers, each = 8, 200
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				l.Add(sample(w*each+i, noon))
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if st := l.Stats(); st.Written != writers*each || st.Lost+st.Failed != 0 {
		t.Errorf("%+v, want %d written", st, writers*each)
	}
	l.Add(sample(0, noon))
	if st := l.Stats(); st.Lost != 1 {
		t.Errorf("a row after the end is not counted as lost: %+v", st)
	}
}

// TestSumsByGroup over keys, models, routes and days.
func TestSumsByGroup(t *testing.T) {
	l := open(t, Options{MaxAge: -1})
	far := sample(3, noon.Add(24*time.Hour))
	far.Key, far.Ref, far.Provider, far.Route, far.Cost, far.Saved = "k2", "openai/x", "openai", "far", 1.5, 0
	bad := sample(4, noon.Add(25*time.Hour))
	bad.Outcome, bad.Input, bad.Output, bad.Saved, bad.Reported = "error", 0, 0, 0, false
	quiet := sample(5, noon)
	quiet.Input, quiet.Output, quiet.Reported, quiet.Estimated = 0, 0, false, true
	for _, r := range []Row{sample(1, noon), sample(2, noon.Add(time.Hour)), far, bad, quiet} {
		l.Add(r)
	}
	flushed(t, l)
	sums := func(q Query) (lines []string) {
		q.Zone = time.UTC
		got, err := l.Sums(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range got {
			lines = append(lines, fmt.Sprintf("%s: %d exchanges %d failed %d far %d in %d out %d estimated $%g $%g saved",
				strings.Join(s.Group, "|"), s.Exchanges, s.Failed, s.Far, s.Input, s.Output, s.Estimated, s.Cost, s.Saved))
		}
		return lines
	}
	k1 := "k1"
	for _, c := range []struct {
		name string
		q    Query
		want []string
	}{
		{"all", Query{}, []string{": 5 exchanges 1 failed 1 far 300 in 60 out 1 estimated $1.5 $0.75 saved"}},
		{"by key", Query{By: []string{"key"}}, []string{
			"k2: 1 exchanges 0 failed 1 far 100 in 20 out 0 estimated $1.5 $0 saved",
			"k1: 4 exchanges 1 failed 0 far 200 in 40 out 1 estimated $0 $0.75 saved"}},
		{"of a key by day", Query{By: []string{"day"}, Key: &k1, ByTime: true}, []string{
			"2026-03-01: 3 exchanges 0 failed 0 far 200 in 40 out 1 estimated $0 $0.75 saved",
			"2026-03-02: 1 exchanges 1 failed 0 far 0 in 0 out 0 estimated $0 $0 saved"}},
		{"by route and model, of a time", Query{By: []string{"route", "model"}, Since: noon.Add(time.Minute), Until: noon.Add(25 * time.Hour)}, []string{
			"far|openai/x: 1 exchanges 0 failed 1 far 100 in 20 out 0 estimated $1.5 $0 saved",
			"near|lmstudio/q: 1 exchanges 0 failed 0 far 100 in 20 out 0 estimated $0 $0.25 saved"}},
		{"at most", Query{By: []string{"hour"}, ByTime: true, Limit: 1}, []string{"2026-03-01T12:00Z: 2 exchanges 0 failed 0 far 100 in 20 out 1 estimated $0 $0.5 saved"}},
	} {
		if diff := cmp.Diff(c.want, sums(c.q)); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
	}
	for _, by := range [][]string{{"id; DROP TABLE exchanges"}, {"day", "day"}} {
		if _, err := l.Sums(context.Background(), Query{By: by}); err == nil {
			t.Errorf("sums by %q are taken", by)
		}
	}
}

// held takes the lock of a file until the returned function is called.
func held(t *testing.T, path string) (release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", address(path))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("DELETE FROM blocks WHERE id < 0"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(tx.Rollback(), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRowsAreLostBeforeAnybodyWaits: a writer that is held up costs rows, which
// are counted, and never an exchange.
func TestRowsAreLostBeforeAnybodyWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	var log strings.Builder
	l, err := Open(Options{Path: path, MaxAge: -1, Queue: 4, Log: zerolog.New(&log)})
	if err != nil {
		t.Fatal(err)
	}
	release := held(t, path)
	for i := range 100 {
		l.Add(sample(i, noon))
	}
	if st := l.Stats(); st.Lost != 96 || st.Waiting != 4 {
		t.Errorf("%+v with a queue of 4 and 100 rows", st)
	}
	release()
	flushed(t, l)
	if st := l.Stats(); st.Written != 4 || st.Waiting != 0 || len(all(t, l)) != 4 {
		t.Errorf("%+v and %d rows, of a queue of 4", st, len(all(t, l)))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "rows are lost") {
		t.Errorf("the log does not tell of them: %s", log.String())
	}
}

// TestAgeAndSizeAreBounded: the oldest rows go, to the very row by age.
func TestAgeAndSizeAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, Options{Path: path, MaxAge: -1, Queue: 1 << 20})
	const rows = 40 * blockRows
	for i := range rows {
		l.Add(sample(i, noon.Add(time.Duration(i)*time.Second)))
		if i%blockRows == 0 {
			flushed(t, l)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	full, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if per := full.Size() / rows; per > 70 {
		t.Errorf("a row takes %d bytes", per)
	}
	// A sweep runs when it is opened; what was flushed after it has seen it.
	l = open(t, Options{Path: path, MaxAge: time.Duration(rows/2-7) * time.Second, Now: func() time.Time { return noon.Add(rows * time.Second) }})
	flushed(t, l)
	if got := all(t, l); len(got) != rows/2-7 || got[0].ID != sample(rows/2+7, noon).ID {
		t.Errorf("%d rows are left, the first is %s; want the younger half", len(got), got[0].ID)
	}
	if sum := one(t, l, Query{}); sum.Exchanges < rows/2-7 || sum.Exchanges > rows/2-7+slotSeconds {
		t.Errorf("the sums are of %d exchanges, want %d and at most a quarter of an hour more", sum.Exchanges, rows/2-7)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, Options{Path: path, MaxAge: -1, MaxBytes: full.Size() / 4})
	flushed(t, l)
	got := all(t, l)
	if len(got) == 0 || len(got) >= rows/2 || got[len(got)-1].ID != sample(rows-1, noon).ID {
		t.Errorf("%d rows are left of %d in a quarter of the size, the last is %s", len(got), rows/2, got[len(got)-1].ID)
	}
	if st := l.Stats(); st.Bytes > full.Size() {
		t.Errorf("the file says it has %d bytes, of %d before", st.Bytes, full.Size())
	}
	if sum := one(t, l, Query{}); sum.Exchanges <= int64(len(got)) {
		t.Errorf("the sums are of %d exchanges: they went with the rows, though they take next to nothing", sum.Exchanges)
	}
}

// one returns the sum of a query without groups.
func one(t *testing.T, l *Ledger, q Query) Sum {
	t.Helper()
	sums, err := l.Sums(context.Background(), q)
	if err != nil || len(sums) != 1 {
		t.Fatalf("%d sums, %v", len(sums), err)
	}
	return sums[0]
}

// TestSmallBlocksAreJoined: a quiet proxy writes one for nearly every exchange,
// and reads one a day later.
func TestSmallBlocksAreJoined(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, Options{Path: path, MaxAge: -1, Queue: 1 << 20})
	const rows, perDay = 300, 100
	add := func(i int) { l.Add(sample(i, noon.Add(time.Duration(i)*24*time.Hour/perDay))) }
	for i := range rows {
		add(i)
		if flushed(t, l); i == rows/2 { // a large one between them stays where it is
			for range blockRows {
				add(i)
			}
			flushed(t, l)
		}
	}
	before := all(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, Options{Path: path, MaxAge: -1})
	flushed(t, l)
	var blocks int
	if err := l.db.Load().QueryRow("SELECT count(*) FROM blocks").Scan(&blocks); err != nil {
		t.Fatal(err)
	}
	if blocks < rows/perDay || blocks > rows/perDay+4 {
		t.Errorf("%d blocks of %d days are left", blocks, rows/perDay)
	}
	if diff := cmp.Diff(before, all(t, l)); diff != "" {
		t.Errorf("joining changed the rows:\n%s", diff)
	}
}
