//go:build unix

package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// BenchmarkAdd is what an exchange pays.
func BenchmarkAdd(b *testing.B) {
	l, err := Open(Options{Path: filepath.Join(b.TempDir(), "ledger.db"), Log: zerolog.Nop(), Queue: 1 << 16})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	r := sample(1, noon)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		l.Add(r)
		if n++; n%(blockRows/2) == 0 { // as many as wait on a proxy that is busy
			b.StopTimer()
			if err := l.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
	if st := l.Stats(); st.Lost > 0 {
		b.Fatalf("%+v", st)
	}
}

// mixed is what a busy proxy's rows look like: a few keys and models, ids and
// times that differ, a failure now and then.
func mixed(n int) []Row {
	rows := make([]Row, n)
	for i := range rows {
		r := sample(i, noon.Add(time.Duration(i)*time.Millisecond))
		r.ID = fmt.Sprintf("req_%024x", uint64(i+1)*0x9e3779b97f4a7c15)
		r.Key, r.Trail, r.Attempts = fmt.Sprint("agent-", i%5), "", 1
		if i%3 == 0 {
			r.Ref, r.Provider, r.Route, r.Cost, r.Saved = "openai/x", "openai", "far", 0.0125, 0
		}
		if i%50 == 0 {
			r.Outcome, r.Code, r.Status, r.Reported, r.Trail, r.Attempts = "error", "upstream_error", 502, false, "lmstudio/q=status_500, openai/x=status_500", 2
		}
		r.Input, r.Output, r.Took = int64(1000+i%7777), int64(i%999), time.Duration(i%5000)*time.Millisecond
		rows[i] = r
	}
	return rows
}

// BenchmarkWritten is what a row costs beside the exchange, until it is in the
// file, in processor time of all threads; and what it cost as a row of SQLite's,
// measured in turns in the same run.
func BenchmarkWritten(b *testing.B) {
	dir := b.TempDir()
	l, err := Open(Options{Path: filepath.Join(dir, "ledger.db"), Log: zerolog.Nop(), Queue: 1 << 16, MaxAge: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	rowwise := newRowwise(b, filepath.Join(dir, "old.db"))
	rows := mixed(blockRows)
	var blocks, old time.Duration
	n := 0
	for b.Loop() {
		if n%(4*blockRows) == 0 { // a sixteenth of the rows the old way too
			old += processor(func() {
				for at := 0; at < len(rows); at += 512 {
					rowwise(rows[at : at+512])
				}
			})
		}
		if n++; n%blockRows == 0 {
			blocks += processor(func() {
				for i := range rows {
					l.Add(rows[i])
				}
				if err := l.Flush(context.Background()); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
	if st := l.Stats(); st.Lost+st.Failed > 0 {
		b.Fatalf("%+v", st)
	}
	if n < blockRows {
		return
	}
	per := float64(blocks.Nanoseconds()) / float64(n/blockRows*blockRows)
	was := float64(old.Nanoseconds()) / float64((n+4*blockRows-1)/(4*blockRows)*blockRows)
	b.ReportMetric(per, "cpu-ns/row")
	b.ReportMetric(was, "cpu-ns/row-of-sqlite")
	b.ReportMetric(was/per, "times-less")
}

// processor returns the processor time of all threads while f runs.
func processor(f func()) time.Duration {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			panic(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	f()
	return used() - before
}

// newRowwise writes as version 1 did: 32 rows a statement, 512 a transaction.
func newRowwise(b *testing.B, path string) func([]Row) {
	db := open1(b, path)
	b.Cleanup(func() { _ = db.Close() })
	const many = 32
	row := "(?" + strings.Repeat(",?", 23) + ")"
	st, err := db.Prepare(insert1 + row + strings.Repeat(","+row, many-1))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = st.Close() })
	return func(rows []Row) {
		tx, err := db.Begin()
		if err != nil {
			b.Fatal(err)
		}
		in := tx.Stmt(st)
		var args []any
		for at := 0; at < len(rows); at += many {
			args = args[:0]
			for i := range rows[at : at+many] {
				args = append(args, values1(&rows[at+i])...)
			}
			if _, err := in.Exec(args...); err != nil {
				b.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSums is a year of a busy proxy, by day and route: what a dashboard asks.
func BenchmarkSums(b *testing.B) {
	db := newYear(b)
	l, err := OpenReader(db)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for b.Loop() {
		if _, err := l.Sums(context.Background(), Query{By: []string{"day", "route"}, ByTime: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// newYear makes a ledger with ten sums in each quarter of an hour of a year.
func newYear(b *testing.B) string {
	path := filepath.Join(b.TempDir(), "year.db")
	l, err := Open(Options{Path: path, Log: zerolog.Nop(), MaxAge: -1})
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	db, err := sql.Open("sqlite", address(path))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{
		`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 10)
			INSERT INTO groups SELECT i, 'k' || i, 'default', 'p/m', 'p', CASE WHEN i % 2 THEN 'far' ELSE 'near' END, 'ok' FROM n`,
		fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i < %d)
			INSERT INTO sums SELECT %d + i/10, 1 + i%%10, 5,0,5,1000,100,0,0,0,0.5,0,5,1000,2000,0 FROM n`, 365*96*10-1, slotOf(noon)-365*96),
	} {
		if _, err := db.Exec(q); err != nil {
			b.Fatal(err)
		}
	}
	return path
}
