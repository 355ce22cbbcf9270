package catalog

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A suggestion is of use when it works: models without a key come last.
func TestSuggestionsAreUsableFirst(t *testing.T) {
	keyless := &Provider{ID: "hosted", Unavailable: "HOSTED_API_KEY is not set"}
	keyless.Models = []*Model{{Provider: keyless, ID: "gpt-5"}}
	near := &Provider{ID: "local"}
	near.Models = []*Model{{Provider: near, ID: "gpt-55"}, {Provider: near, ID: "other"}, {Provider: near, ID: "gpt-5555555"}}
	c := New([]*Provider{keyless, near}, []Alias{{Name: "gpt4", To: "local/other"}, {Name: "gpt*", To: "local/other"}}, nil)
	f := func(name string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, c.nearest(name)); diff != "" {
			t.Errorf("nearest(%q): %s", name, diff)
		}
	}
	f("gpt5", "gpt4", "local/gpt-55", "hosted/gpt-5")
	f("defalt", "default")
	f("555555", "local/gpt-5555555")
	f("wholly different")
	_, err := c.Resolve("wholly different", ResolveOptions{})
	if want := `model "wholly different" not found; there are "default", "gpt4", "local/gpt-55", "local/other", "local/gpt-5555555"`; err == nil || err.Error() != want {
		t.Errorf("far from every name\n got %v\nwant %s", err, want)
	}
}

func TestEditDistanceStopsAtItsBound(t *testing.T) {
	f := func(a, b string, want int) {
		t.Helper()
		if got := distance(a, b, 3); got != want {
			t.Errorf("distance(%q, %q) = %d, want %d", a, b, got, want)
		}
	}
	f("", "", 0)
	f("abc", "abc", 0)
	f("abc", "", 3)
	f("abc", "abd", 1)
	f("kitten", "sitting", 3)
	f("abcdef", "uvwxyz", 4)
	f("a", "abcde", 4)
}
