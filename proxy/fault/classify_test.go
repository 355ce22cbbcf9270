package fault

import (
	"encoding/json"
	"os"
	"strconv"
	"testing"

	"nearside/shaping/wire"
)

// vector is a failure as OpenClaw's own functions classified it, version
// 2026.5.5.
type vector struct {
	Error struct {
		Status     int
		StatusCode string
		Code, Name string
		Message    string
		Provider   string
	}
	Class *string
}

func (v *vector) failure() Failure {
	e := &v.Error
	f := Failure{Status: e.Status, Code: e.Code, Type: e.Name, Message: e.Message, Provider: e.Provider, HTML: wire.IsHTML("", []byte(e.Message))}
	if e.StatusCode != "" {
		f.Status, _ = strconv.Atoi(e.StatusCode)
	}
	return f
}

// OpenClaw decides by these classes which key cools down and whether it goes
// on: a reason of ours that it would read otherwise sends an agent elsewhere
// than its owner expects.
func TestClassesAreOpenClaws(t *testing.T) {
	for _, v := range vectors(t) {
		want := ""
		if v.Class != nil {
			want = *v.Class
		}
		f := v.failure()
		if r := Classify(f); r.OpenClaw(f.Status) != want {
			t.Errorf("%+v: %v, class %q, want %q", v.Error, r, r.OpenClaw(f.Status), want)
		}
	}
}

func vectors(t testing.TB) []vector {
	t.Helper()
	p, err := os.ReadFile("testdata/openclaw.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(p, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 79 {
		t.Fatalf("only %d vectors", len(all))
	}
	return all
}
