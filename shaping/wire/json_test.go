package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestGetFollowsPaths(t *testing.T) {
	p := []byte(` {"a":{"b":[1,"x]}\"",{"c\u006f":true}]},"e":[],"a":2} `)
	f := func(want string, ok bool, path ...string) {
		t.Helper()
		at, found := Get(p, Span{0, len(p)}, path...)
		got := ""
		if found {
			got = string(at.Of(p))
		}
		if found != ok || got != want && len(path) > 0 {
			t.Errorf("Get(%q): got %s %v, want %s %v", path, got, found, want, ok)
		}
	}
	f("", true)
	f("1", true, "a", "b", "0")
	f(`"x]}\""`, true, "a", "b", "1")
	f("true", true, "a", "b", "2", "co")
	f("[]", true, "e")
	f("", false, "e", "0")
	f("", false, "a", "b", "3")
	f("", false, "a", "b", "-1")
	f("", false, "a", "b", "x")
	f("", false, "A")
	f("", false, "a", "b", "0", "y")
}

func TestIterWalksAndStopsAtMalformed(t *testing.T) {
	f := func(p string, bad bool, want ...string) {
		t.Helper()
		it := Members([]byte(p), Span{0, len(p)})
		if strings.HasPrefix(strings.TrimSpace(p), "[") {
			it = Elements([]byte(p), Span{0, len(p)})
		}
		var got []string
		for it.Next() {
			got = append(got, string(it.Key.Of([]byte(p)))+"="+string(it.Value.Of([]byte(p))))
		}
		if it.Next() {
			t.Errorf("%s: goes on after its end", p)
		}
		if d := cmp.Diff(want, got); d != "" || it.Bad != bad {
			t.Errorf("%s: bad %v, want %v (-want +got)\n%s", p, it.Bad, bad, d)
		}
	}
	f(`{}`, false)
	f(`[ ]`, false)
	f(` { "a" : 1 , "b":[{}] } `, false, "a=1", "b=[{}]")
	f(`[1,"a", null]x`, false, "=1", `="a"`, "=null")
	f(`{"a":1,`, true, "a=1")
	f(`{"a":1 "b":2}`, true, "a=1")
	f(`{"a"}`, true)
	f(`{"a":[1`, true)
	f(`["a`, true)
	f(`12`, true)
	f(``, true)
}

func TestIntTruncates(t *testing.T) {
	f := func(v string, want int64, ok bool) {
		t.Helper()
		if got, is := Int([]byte(v)); got != want || is != ok {
			t.Errorf("Int(%s): got %d %v, want %d %v", v, got, is, want, ok)
		}
	}
	f("0", 0, true)
	f("123456789012345678", 123456789012345678, true)
	f("12.9", 12, true)
	f("1e3", 1000, true)
	f("-5", 0, true)
	f("1e400", 1<<62, true)
	f("-1e400", 0, true)
	f("99999999999999999999", 1<<62, true)
	f(`"1"`, 0, false)
	f("null", 0, false)
	f("-", 0, false)
	f("", 0, false)
}

func TestStringsRoundTrip(t *testing.T) {
	f := func(s, want string) {
		t.Helper()
		if got := string(AppendString(nil, s)); got != want || string(AppendQuoted(nil, []byte(s))) != want {
			t.Errorf("AppendString(%q): got %s, want %s", s, got, want)
		}
	}
	f("", `""`)
	f("a<&>é😀\u2028\x7f", "\"a<&>é😀\u2028\x7f\"")
	f("\"\\\b\f\n\r\t\x00\x1f", `"\"\\\b\f\n\r\t\u0000\u001f"`)
	f("a\xffb\xc3", "\"a\uFFFDb\uFFFD\"")
	f("\uFFFD", "\"\uFFFD\"")

	g := func(quoted, want string, ok bool) {
		t.Helper()
		got, is := AppendUnquoted([]byte("x"), []byte(quoted))
		if is != ok || string(got) != "x"+want {
			t.Errorf("AppendUnquoted(%s): got %q %v, want %q %v", quoted, got, is, want, ok)
		}
		if ok && !EqualString([]byte(quoted), want) || EqualString([]byte(quoted), want+"x") {
			t.Errorf("EqualString(%s, %q) is wrong", quoted, want)
		}
	}
	g(`"\u00e9\ud83d\ude00\/\n"`, "é😀/\n", true)
	g(`"\ud83d"`, "\uFFFD", true)
	g(`"\ude00\ud83d\u0041"`, "\uFFFD\uFFFDA", true)
	g(`"\ud83d\n"`, "\uFFFD\n", true)
	g("\"\xff\"", "\xff", true)
	g(`""`, "", true)
	g(`"a`, "", false)
	g(`a"`, "", false)
	g(`"`, "", false)
	g(`"a"b"`, "", false)
	g(`"\u12"`, "", false)
	g(`"\a"`, "", false)
	g("\"\n\"", "", false)
}

func FuzzStringsAgreeWithEncodingJSON(f *testing.F) {
	f.Add("a\"\\\n\xff\u2028")
	f.Add(`\ud800\udc00`)
	f.Fuzz(func(t *testing.T, s string) {
		q := AppendString(nil, s)
		var back string
		if err := json.Unmarshal(q, &back); err != nil || back != strings.ToValidUTF8(repeatInvalid(s), "\uFFFD") {
			t.Fatalf("AppendString(%q) = %s: read as %q, %v", s, q, back, err)
		}
		token := `"` + s + `"`
		var want string
		wantErr := json.Unmarshal([]byte(token), &want)
		got, ok := AppendUnquoted(nil, []byte(token))
		if ok != (wantErr == nil) {
			t.Fatalf("AppendUnquoted(%q): got %v, encoding/json says %v", token, ok, wantErr)
		}
		if ok && utf8.ValidString(s) && string(got) != want {
			t.Fatalf("AppendUnquoted(%q): got %q, want %q", token, got, want)
		}
	})
}

// repeatInvalid keeps ToValidUTF8 from joining runs of invalid bytes.
func repeatInvalid(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteRune(r)
	}
	return b.String()
}

func FuzzNavigationNeverPanics(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":2}]}`), "a")
	f.Fuzz(func(t *testing.T, p []byte, key string) {
		at := Span{0, len(p)}
		Get(p, at, key, "0", key)
		for it := Members(p, at); it.Next(); {
			if it.Value.Start >= it.Value.End || it.Value.End > len(p) {
				t.Fatalf("span %v of %d bytes", it.Value, len(p))
			}
		}
		for it := Elements(p, at); it.Next(); {
			it.Is(key)
		}
		var u Usage
		FindUsage(p, at, &u)
		IsErrorBody(p)
	})
}

func TestNavigationDoesNotAllocate(t *testing.T) {
	p := []byte(`{"id":"x","choices":[{"index":0,"delta":{"content":"hi"}}]}`)
	if n := testing.AllocsPerRun(20, func() {
		if _, ok := Get(p, Span{0, len(p)}, "choices", "0", "delta", "content"); !ok {
			t.Fatal("not found")
		}
		for it := Members(p, Span{0, len(p)}); it.Next(); {
			it.Is("id")
		}
	}); n != 0 {
		t.Fatalf("got %v allocations, want 0", n)
	}
}

func BenchmarkAppendString(b *testing.B) {
	s := strings.Repeat("The quick brown fox jumps over the lazy dog; \"twice\".\n", 200)
	dst := make([]byte, 0, 2*len(s))
	b.SetBytes(int64(len(s)))
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendString(dst[:0], s)
	}
}
