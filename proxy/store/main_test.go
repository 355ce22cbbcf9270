package store

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(soakChild); path != "" {
		putUntilKilled(path)
	}
	goleak.VerifyTestMain(m)
}

// opener opens the same store every time that it is called; in memory it is an
// empty one.
type opener func(Options) *Store

// eachMode runs one contract on all that keeps it.
func eachMode(t *testing.T, f func(t *testing.T, open opener)) {
	t.Helper()
	for _, mode := range []string{"memory", "file", "rollback"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			path := ""
			if mode != "memory" {
				path = filepath.Join(t.TempDir(), "data", "responses.db")
			}
			f(t, func(opt Options) *Store {
				t.Helper()
				opt.Path, opt.rollback = path, mode == "rollback"
				return mustOpen(t, opt)
			})
		})
	}
}

func mustOpen(t testing.TB, opt Options) *Store {
	t.Helper()
	s, err := Open(opt)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func item(id string) Item {
	return Item{ID: id, JSON: fmt.Appendf(nil, `{"id":%q}`, id)}
}

func items(ids ...string) []Item {
	list := []Item{}
	for _, id := range ids {
		list = append(list, item(id))
	}
	return list
}

// turn is a completed response with one item each way.
func turn(owner, id, previous string) *Response {
	return &Response{
		ID: id, Owner: owner, Previous: previous, Model: "ollama/qwen3", Status: "completed", Created: time.UnixMilli(1764000000123),
		Resource: fmt.Appendf(nil, `{"id":%q,"status":"completed"}`, id),
		Input:    items("in_" + id), Output: items("out_" + id),
	}
}

func put(t testing.TB, s *Store, list ...*Response) {
	t.Helper()
	for _, r := range list {
		if err := s.Put(context.Background(), r); err != nil {
			t.Fatalf("Put(%s): %v", r.ID, err)
		}
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if want == nil && got != nil || want != nil && !isErr(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func wantHistory(t *testing.T, s *Store, owner, id, want string) {
	t.Helper()
	got, err := s.History(owner, id)
	if err != nil {
		t.Fatalf("History(%s): %v", id, err)
	}
	if string(got) != want {
		t.Fatalf("History(%s)\n got %s\nwant %s", id, got, want)
	}
}

// wantSound checks what must always hold of the tables and the counters.
func wantSound(t *testing.T, s *Store) {
	t.Helper()
	counts := map[string]int64{}
	inside(t, s, func(w *writer) error {
		for name, q := range map[string]string{
			"responses":     `SELECT count(*) FROM responses WHERE deleted = 0`,
			"conversations": `SELECT count(*) FROM conversations`,
			"lost items": `SELECT count(*) FROM items WHERE side < 2 AND holder NOT IN (SELECT key FROM responses)
				OR side = 2 AND holder NOT IN (SELECT key FROM conversations)`,
			"empty trees":          `SELECT count(*) FROM trees WHERE key NOT IN (SELECT tree FROM responses)`,
			"responses in no tree": `SELECT count(*) FROM responses WHERE tree NOT IN (SELECT key FROM trees)`,
			"lost parents":         `SELECT count(*) FROM responses WHERE parent IS NOT NULL AND parent NOT IN (SELECT key FROM responses)`,
			"idle tombstones":      `SELECT count(*) FROM responses r WHERE deleted = 1 AND NOT EXISTS (SELECT 1 FROM responses c WHERE c.parent = r.key)`,
			"wrong sizes": `SELECT count(*) FROM responses r WHERE bytes <> length(resource) +
				(SELECT coalesce(sum(length(json)), 0) FROM items WHERE holder = r.key AND side < 2)`,
			"wrong conversations": `SELECT count(*) FROM conversations c WHERE (items, bytes) IS NOT
				(SELECT count(*), coalesce(sum(length(json)), 0) FROM items WHERE holder = c.key AND side = 2)`,
		} {
			var n int64
			if err := w.row(q).Scan(&n); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			counts[name] = n
		}
		return nil
	})
	st := s.Stats()
	if st.Responses != counts["responses"] || st.Conversations != counts["conversations"] {
		t.Fatalf("counters: got %d responses, %d conversations, want %d, %d",
			st.Responses, st.Conversations, counts["responses"], counts["conversations"])
	}
	delete(counts, "responses")
	delete(counts, "conversations")
	for name, n := range counts {
		if n != 0 {
			t.Fatalf("%s: %d, want none", name, n)
		}
	}
}

// inside runs f on the writer's goroutine.
func inside(t *testing.T, s *Store, f func(w *writer) error) {
	t.Helper()
	if err := s.do(context.Background(), 0, f); err != nil {
		t.Fatal(err)
	}
}

// clock is a clock that tests set.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ms.Store(1764000000000)
	return c
}

func (c *clock) now() time.Time       { return time.UnixMilli(c.ms.Load()) }
func (c *clock) pass(d time.Duration) { c.ms.Add(d.Milliseconds()) }

func zerologTo(w io.Writer) zerolog.Logger { return zerolog.New(w) }
