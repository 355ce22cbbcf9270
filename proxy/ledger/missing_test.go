package ledger

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

// What can be read of a file with a damaged block is read, and the rest is said to be
// missing: rows, the latest of them, sums and series.
func TestDamagedBlocksAreLeftOutAndCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, Options{Path: path, MaxAge: -1, Now: func() time.Time { return noon.Add(time.Hour) }})
	for i := range 3 {
		l.Add(sample(i, noon.Add(time.Duration(i)*time.Minute)))
		flushed(t, l) // a block of its own
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE blocks SET data = x'0102030405' WHERE id = (SELECT min(id) FROM blocks)`); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	wants := func(what string, err error, n, want int) {
		t.Helper()
		var missing Missing
		if !errors.As(err, &missing) || missing != 1 || n != want {
			t.Errorf("%s: %d, want %d, and %v", what, n, want, err)
		}
	}
	n := 0
	err = l.Rows(ctx, Query{}, func(Row) error { n++; return nil })
	wants("rows", err, n, 2)
	latest, err := l.Latest(ctx, Query{}, 10)
	wants("latest", err, len(latest), 2)
	cut := Query{Since: noon.Add(-time.Second), Until: noon.Add(10 * time.Minute)} // within a quarter, of which rows tell
	sums, err := l.Sums(ctx, cut)
	wants("sums", err, int(sums[0].Exchanges), 2)
	points, err := l.Series(ctx, cut, "hour")
	total := 0
	for _, p := range points {
		for _, s := range p.Sums {
			total += int(s.Exchanges)
		}
	}
	wants("series", err, total, 2)
	u, err := l.Usage(ctx, cut)
	if err != nil || u.Missing != 1 || u.Total.Exchanges != 2 {
		t.Errorf("usage: %+v, %v", u, err)
	}
	// Of whole quarters the sums beside the rows tell.
	if u, err := l.Usage(ctx, Query{}); err != nil || u.Missing != 0 || u.Total.Exchanges != 3 {
		t.Errorf("usage of all: %+v, %v", u, err)
	}
}
