package command

import (
	"strings"
	"testing"
)

func TestTableAlignsColumns(t *testing.T) {
	var b strings.Builder
	table(&b, "  ", [][]string{{"a", "→", "long last"}, {"bbb", "cc", ""}, {"d"}})
	if got, want := b.String(), "  a    →   long last\n  bbb  cc\n  d\n"; got != want {
		t.Fatalf("table\n got %q\nwant %q", got, want)
	}
}

func TestTokensReadAsPeopleSayThem(t *testing.T) {
	f := func(n int, want string) {
		t.Helper()
		if got := tokens(n); got != want {
			t.Fatalf("tokens(%d)\n got %q\nwant %q", n, got, want)
		}
	}
	f(0, "-")
	f(128000, "128k")
	f(131072, "128Ki")
	f(1000000, "1M")
	f(1048576, "1Mi")
	f(1047576, "1047576")
	f(500, "500")
}

func TestDistanceFindsTypingErrors(t *testing.T) {
	f := func(a, b string, want int) {
		t.Helper()
		if got := distance(a, b); got != want {
			t.Fatalf("distance(%q, %q)\n got %d\nwant %d", a, b, got, want)
		}
	}
	f("check", "check", 0)
	f("chek", "check", 1)
	f("modles", "models", 2)
	f("", "sim", 3)
}
