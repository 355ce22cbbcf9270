package proxy

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"nearside/shaping/wire"
)

// Receipts are read by scripts: one way of naming, every count present, and
// what the list shows is what the single one shows.
func TestReceiptIsWrittenInSnakeCase(t *testing.T) {
	r := &Receipt{ID: "req_1", Started: time.Unix(7, 0).UTC(), Model: "near/<m>", Usage: wire.Usage{Input: 1, Output: 2, Cached: 3, CacheWrite: 4, Reasoning: 5, Total: 6}, HasUsage: true,
		Attempts: []Attempt{{Ref: "near/m", Outcome: "ok", Took: 5}}}
	one, err := json.MarshalWithOption(r, json.DisableHTMLEscape())
	if err != nil {
		t.Fatal(err)
	}
	if want := `"usage":{"input":1,"output":2,"cached":3,"cache_write":4,"reasoning":5,"total":6}`; !strings.Contains(string(one), want) {
		t.Errorf("got %s\nwant %s in it", one, want)
	}
	if bad := regexp.MustCompile(`"\w*[A-Z]\w*":`).FindAllString(string(one), -1); len(bad) > 0 {
		t.Errorf("keys %q in %s", bad, one)
	}
	if n := strings.Count(string(one), `"usage":`); n != 1 || !strings.Contains(string(one), `"near/<m>"`) || !strings.Contains(string(one), `"took_ns":5`) {
		t.Errorf("%d usages in %s", n, one)
	}
	list, err := json.MarshalWithOption(map[string]any{"data": []*Receipt{r}}, json.DisableHTMLEscape())
	if want := `{"data":[` + string(one) + `]}`; err != nil || string(list) != want {
		t.Errorf("%v\n got %s\nwant %s", err, list, want)
	}
}

// TestCodesAreNoSentences: what a backend writes where its code belongs may be of the
// prompt, and the ledger holds none of that.
func TestCodesAreNoSentences(t *testing.T) {
	f := func(said, want string) {
		t.Helper()
		if got := shortCode(said); got != want {
			t.Errorf("%q is counted as %q, want %q", said, got, want)
		}
	}
	f("", "")
	f("model_not_found", "model_not_found")
	f("1301", "1301")
	f("InvalidParameter.Model-2", "InvalidParameter.Model-2")
	f(strings.Repeat("a", codeMax), strings.Repeat("a", codeMax))
	f(strings.Repeat("a", codeMax+1), "upstream_error")
	f("you said: my secret", "upstream_error")
	f("größe", "upstream_error")
	f("a@b", "upstream_error")
}
