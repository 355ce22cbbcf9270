package meter

import (
	"strings"
	"testing"
)

// The store's figures are asked for when they are written, and absent where
// there is no store.
func TestStoreFigures(t *testing.T) {
	m := New(Options{})
	var b strings.Builder
	if err := m.Write(&b); err != nil || strings.Contains(b.String(), "nearside_store") {
		t.Fatalf("without a store: %v\n%s", err, b.String())
	}
	n := int64(0)
	m.Watch(func() Store { n++; return Store{Responses: n, Bytes: 7, Queue: 2, WriteErrors: 3} })
	for _, want := range []string{`nearside_stored{kind="response"} 1`, `nearside_stored{kind="response"} 2`} {
		b.Reset()
		if err := m.Write(&b); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{want, `nearside_stored{kind="conversation"} 0`, "nearside_store_bytes 7", "nearside_store_queue 2", "nearside_store_write_errors_total 3"} {
			if !strings.Contains(b.String(), "\n"+line+"\n") {
				t.Errorf("no %q in\n%s", line, b.String())
			}
		}
	}
}
