package shaping

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nearside/catalog"
)

// explain is read by people who wonder why a backend got something else than
// they sent: values must be short and on one line, and a path that changes
// twice must read as one story.
func TestExplainCutsValues(t *testing.T) {
	long := strings.Repeat("é", 500)
	body := "{\"model\":\"" + long + "\",\"messages\":[],\"service_tier\":\"a  b\",\"tool_choice\":{\n    \"type\": \"x\"\n  }}"
	got := shape(t, story{ID: "m"}, body)
	lines := strings.Split(got.explain, "\n")
	if want := `model: "` + strings.Repeat("é", explainChars-1) + `… -> "m"`; lines[0] != want {
		t.Fatalf("explain\n got %s\nwant %s", lines[0], want)
	}
	if want := `service_tier: "a  b" is dropped`; lines[2] != want {
		t.Fatalf("explain\n got %s\nwant %s", lines[2], want)
	}
	if want := `tool_choice: { "type": "x" } is dropped`; lines[4] != want {
		t.Fatalf("explain\n got %s\nwant %s", lines[4], want)
	}
}

func TestExplainJSON(t *testing.T) {
	got := shape(t, story{ID: "m", Compat: catalog.Compat{}}, `{"model":"a\"b","store":true}`)
	var lines []map[string]any
	if err := json.Unmarshal([]byte(got.json), &lines); err != nil {
		t.Fatalf("%v: %s", err, got.json)
	}
	for _, l := range lines {
		if l["why"] == "" {
			t.Fatalf("no why in %v", l)
		}
		delete(l, "why")
	}
	want := []map[string]any{
		{"path": "model", "before": `"a\"b"`, "after": `"m"`, "rule": "model", "dropped": false},
		{"path": "store", "before": "true", "rule": "store", "dropped": true},
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Fatalf("explain (-want +got):\n%s", diff)
	}
	if got := shape(t, story{ID: "m"}, `{"model":"m"}`); got.json != "[]" || got.explain != "nothing changes\n" {
		t.Fatalf("explain of no change: %s %s", got.json, got.explain)
	}
}
