package json5

import (
	"os"
	"strings"
	"testing"
)

func parsed(t *testing.T, text string) *Value {
	t.Helper()
	v, errs := Parse("", []byte(text), Limits{})
	if len(errs) > 0 {
		t.Fatalf("%q: %v", text, errs[0])
	}
	return v
}

func TestPathsAreReadAsOpenClawWritesThem(t *testing.T) {
	f := func(in string, want ...string) {
		t.Helper()
		got, err := ParsePath(in)
		if err != nil {
			t.Fatalf("ParsePath(%q): %v", in, err)
		}
		var words []string
		for _, s := range got {
			words = append(words, string(s))
		}
		if strings.Join(words, "|") != strings.Join(want, "|") {
			t.Fatalf("ParsePath(%q)\n got %q\nwant %q", in, words, want)
		}
		again, err := ParsePath(PathString(got))
		if err != nil || PathString(again) != PathString(got) {
			t.Fatalf("ParsePath(%q): %v, %q", PathString(got), err, again)
		}
	}
	f("models", "models")
	f(" agents.defaults.model.primary ", "agents", "defaults", "model", "primary")
	f("agents.list[0].tools", "agents", "list", "0", "tools")
	f("a.0.b", "a", "0", "b")
	f(`agents.defaults.models["local/qwen3.5"].alias`, "agents", "defaults", "models", "local/qwen3.5", "alias")
	f(`models.providers['my gpu'].baseUrl`, "models", "providers", "my gpu", "baseUrl")
	f(`agents.defaults.models.local/qwen3\.5.alias`, "agents", "defaults", "models", "local/qwen3.5", "alias")
	f(`models[local/qwen3.5:8b][ 0 ]`, "models", "local/qwen3.5:8b", "0")
	f(`["a]b"].c`, "a]b", "c")
	f(`["a\"b\u0041"]`, `a"bA`)
	f(`a[""]`, "a", "")
	f("ünï.日本", "ünï", "日本")

	wrong := func(in, want string) {
		t.Helper()
		if got, err := ParsePath(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("ParsePath(%q): %q, %v; want an error with %q", in, got, err, want)
		}
	}
	wrong("", "empty")
	wrong(".a", "missing")
	wrong("a..b", "missing")
	wrong("a.", "missing")
	wrong("a.[0]", "missing")
	wrong("a[0", "not closed")
	wrong("a[]", "empty")
	wrong(`a["b"`, "no ] closes")
	wrong(`a["b`, "no end")
	wrong("a[0]b", "dot or a bracket")
	wrong(`a\`, "nothing follows")
	wrong(strings.Repeat("a.", 64)+"a", "more than 64 parts")
}

// Whoever has a file with comments, quotes and an order of their own keeps them:
// each case is the whole text before and after.
func TestSetLeavesTheRestAsItIs(t *testing.T) {
	f := func(src, path, value, want string) {
		t.Helper()
		steps, err := ParsePath(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Set([]byte(src), steps, parsed(t, value))
		if err != nil {
			t.Fatalf("Set(%q, %s): %v", src, path, err)
		}
		if string(got) != want {
			t.Fatalf("Set(%s, %s)\n%s\n got:\n%s\nwant:\n%s", path, value, src, got, want)
		}
	}
	// Replaced in place.
	f("{ a: 1, // one\n b: 2 }", "a", "3", "{ a: 3, // one\n b: 2 }")
	f("{'a': 'x', 'b': 'y'}", "a", `"it's"`, `{'a': 'it\'s', 'b': 'y'}`)
	f("{a: [1, 2, /* three */ 3]}", "a[1]", "9", "{a: [1, 9, /* three */ 3]}")
	f("{a: /* before */ {b: 1} /* after */,}", "a", "true", "{a: /* before */ true /* after */,}")
	// What is the same is not written again.
	f("{a: 0x10, b: 'x'}", "a", "16", "{a: 0x10, b: 'x'}")
}

func TestUnsetLeavesTheRestAsItIs(t *testing.T) {
	f := func(src, path, want string) {
		t.Helper()
		steps, err := ParsePath(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Unset([]byte(src), steps)
		if err != nil {
			t.Fatalf("Unset(%q, %s): %v", src, path, err)
		}
		if string(got) != want {
			t.Fatalf("Unset(%s)\n%s\n got:\n%s\nwant:\n%s", path, src, got, want)
		}
	}
	f("{ a: 1 }", "a", "{}")
	f("{a: 1, b: 2, c: 3}", "a", "{b: 2, c: 3}")
	f("{a: 1, b: 2, c: 3}", "b", "{a: 1, c: 3}")
	f("{a: 1, b: 2, c: 3}", "c", "{a: 1, b: 2}")
	f("{a: 1, b: 2, }", "b", "{a: 1, }")
	f("{\n  a: 1,\n  b: 2\n}", "a", "{\n  b: 2\n}")
	f("{\n  a: 1,\n  b: 2\n}", "b", "{\n  a: 1\n}")
	f("{\r\n  a: 1,\r\n  b: 2,\r\n}\r\n", "b", "{\r\n  a: 1,\r\n}\r\n")
	// Comments outside what goes stay, also those that stood beside it.
	f("{\n  // of a\n  a: 1, // one\n\n  b: 2,\n}", "a", "{\n  // of a\n  // one\n\n  b: 2,\n}")
	f("{\n  a: 1, // one\n  b: 2 // two\n}", "b", "{\n  a: 1 // one\n  // two\n}")
	f("{\n  a: 1, // one\n  b: {\n    c: 3, // gone\n  },\n}", "b", "{\n  a: 1, // one\n}")
	f("{a: 1 // one\n , b: 2}", "a", "{ // one\n  b: 2}")
	f("{a: 1, // one\n b: 2}", "b", "{a: 1 // one\n }")
	f("{a: 1, /* x */ b: 2}", "b", "{a: 1 /* x */}")
	f("[1,\n2, 3]", "[0]", "[\n2, 3]")
	f("[1,\n2, 3]", "[1]", "[1,\n3]")
	f("[1,\n2]", "[1]", "[1]")
	f(`{"list": [{"id": "a"}, {"id": "b"}]}`, "list[0]", `{"list": [{"id": "b"}]}`)

	if _, err := Unset([]byte("{a: {b: 1}}"), []Step{"a", "c"}); err == nil || err.Error() != "a.c is not set" {
		t.Fatalf("Unset of nothing: %v", err)
	}
}

func TestSetAddsInTheStyleOfTheFile(t *testing.T) {
	f := func(src, path, value, want string) {
		t.Helper()
		steps, err := ParsePath(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Set([]byte(src), steps, parsed(t, value))
		if err != nil {
			t.Fatalf("Set(%q, %s): %v", src, path, err)
		}
		if string(got) != want {
			t.Fatalf("Set(%s, %s)\n%s\n got:\n%s\nwant:\n%s", path, value, src, got, want)
		}
		back, err := Unset(got, steps)
		if err != nil || string(back) != src {
			t.Fatalf("Unset(%s) of\n%s\n got (%v):\n%s\nwant:\n%s", path, got, err, back, src)
		}
	}
	f("{a: 1}", "b", "2", "{a: 1, b: 2}")
	f("{ a: 1, }", "b", "2", "{ a: 1, b: 2, }")
	f("{ a: 1 /* one */ }", "b", "2", "{ a: 1, /* one */ b: 2 }")
	f("{\n  a: 1,\n}\n", "b", "2", "{\n  a: 1,\n  b: 2,\n}\n")
	f("{\n  a: 1 // one\n}\n", "b", "2", "{\n  a: 1, // one\n  b: 2\n}\n")
	f("{\n  a: 1, /* one\n  or two */ // three\n  // the end\n}\n", "b", "2", "{\n  a: 1, /* one\n  or two */ // three\n  b: 2,\n  // the end\n}\n")
	f("{\r\n\t'a': 'x',\r\n}\r\n", "b", `["y", 'it\"s']`, "{\r\n\t'a': 'x',\r\n\t'b': ['y', 'it\"s'],\r\n}\r\n")
	f("{\n    \"a\": 1\n}\n", "b-c", `{d: .5, e: [true]}`, "{\n    \"a\": 1,\n    \"b-c\": { \"d\": 0.5, \"e\": [true] }\n}\n")
	f("{ a: 1,\n  b: 2 }", "c", "3", "{ a: 1,\n  b: 2,\n  c: 3 }")
	f("{a: {\n  // nothing yet\n}}", "a.b", "3", "{a: {\n  // nothing yet\n  b: 3,\n}}")
	f("{a: [\n  1,\n  2,\n]}", "a[2]", "{b: {c: 3}}", "{a: [\n  1,\n  2,\n  {\n    b: { c: 3 },\n  },\n]}")
	f("{ /* none */ }", "a", "1", "{ /* none */ a: 1 }")
	f("{a: {}}", "a.b", "1", "{a: { b: 1 }}")

	// Objects on the way are made.
	got, err := Set([]byte("{}"), []Step{"proxy", "providers", "my gpu", "slots"}, parsed(t, "2"))
	want := "{\n  proxy: {\n    providers: {\n      \"my gpu\": { slots: 2 },\n    },\n  },\n}"
	if err != nil || string(got) != want {
		t.Fatalf("got (%v):\n%s\nwant:\n%s", err, got, want)
	}
	for path, want := range map[string]string{"a.b": "a is a number and has no b", "l[2]": "l has 1 elements, and 2 is none of them", "l.x": "x is none of them"} {
		steps, _ := ParsePath(path)
		if _, err := Set([]byte("{a: 1, l: [0]}"), steps, parsed(t, "1")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Set(%s): %v, want %q", path, err, want)
		}
	}
}

// A whole object is changed member by member, so that the comments of what stays
// stay.
func TestSetOfAnObjectKeepsWhatIsTheSame(t *testing.T) {
	src := "{\n  p: {\n    // where\n    url: 'x', // here\n    old: 1,\n    list: [1, /* two */ 2, 3],\n  },\n}\n"
	got, err := Set([]byte(src), []Step{"p"}, parsed(t, "{url: 'x', list: [1, 2], add: true}"))
	want := "{\n  p: {\n    // where\n    url: 'x', // here\n    list: [1, /* two */ 2],\n    add: true,\n  },\n}\n"
	if err != nil || string(got) != want {
		t.Fatalf("got (%v):\n%s\nwant:\n%s", err, got, want)
	}
	again, err := Set(got, []Step{"p"}, parsed(t, "{url: \"x\", list: [1, 0x2], add: true}"))
	if err != nil || strings.Contains(string(again), "\"x\"") {
		t.Fatalf("what is the same was written again (%v):\n%s", err, again)
	}
}

func TestMergeKeepsTheOthers(t *testing.T) {
	src := "{\n  models: [\n    { id: 'a', n: 1 }, // first\n    { id: 'b', n: 2 },\n  ],\n  alias: { x: 1 },\n}\n"
	got, err := Merge([]byte(src), []Step{"models"}, parsed(t, "[{id: 'b', m: 3}, {id: 'c'}]"))
	if err == nil {
		got, err = Merge(got, []Step{"alias"}, parsed(t, "{y: {z: 2}}"))
	}
	want := "{\n  models: [\n    { id: 'a', n: 1 }, // first\n    { id: 'b', n: 2, m: 3 },\n    { id: 'c' },\n  ],\n  alias: { x: 1, y: { z: 2 } },\n}\n"
	if err != nil || string(got) != want {
		t.Fatalf("got (%v):\n%s\nwant:\n%s", err, got, want)
	}
}

// TestEveryPlaceOfTheReferenceCanBeEdited adds a member to each object of
// config.json5 and takes it away, and takes away each member.
func TestEveryPlaceOfTheReferenceCanBeEdited(t *testing.T) {
	src, err := os.ReadFile("../../../config.json5")
	if err != nil {
		t.Fatal(err)
	}
	places := 0
	var visit func(v *Value, path []Step)
	visit = func(v *Value, path []Step) {
		for _, m := range v.Members {
			at := below(path, m.Key)
			if _, err := Unset(src, at); err != nil {
				t.Errorf("Unset(%s): %v", PathString(at), err)
			}
			visit(m.Value, at)
		}
		if v.Kind != Object {
			return
		}
		places++
		at := below(path, "an addition")
		out, err := Set(src, at, &Value{Kind: Array, Items: []*Value{{Kind: Number, Text: "1"}}})
		if err != nil {
			t.Fatalf("Set(%s): %v", PathString(at), err)
		}
		back, err := Unset(out, at)
		if err != nil || len(v.Members) > 0 && string(back) != string(src) {
			t.Errorf("Unset(Set(%s)) is not what was before (%v)", PathString(at), err)
		}
	}
	visit(parsed(t, string(src)), nil)
	if places < 10 {
		t.Errorf("only %d objects", places)
	}
}

// FuzzEdit changes any text in any place: what the result means and that no
// comment is lost is checked by the editor itself, which must never find itself
// wrong, and what was added can be taken away again.
func FuzzEdit(f *testing.F) {
	f.Add("{\n  // x\n  proxy: {\n    limits: { depth: 3 }, // y\n  },\n}\n", "proxy.limits.depth", "3")
	f.Add("{}", "a.b[0]", "[1]")
	f.Add("{a: 1 // x\n ,'b': [1,2 /*y*/,] }", "b[1]", "{c: null}")
	f.Add("// x\n{\r\n\t\"a\": {\"b\": {}}}", "a.b.c", "'it\\'s'")
	f.Add("[1,\n2 // x\n]", "[2]", "-Infinity")
	f.Add("{a: 1, /* x */ b: 2,\u2028}", "b", "{}")
	f.Fuzz(func(t *testing.T, src, path, value string) {
		steps, err := ParsePath(path)
		if err != nil {
			return
		}
		root, errs := Parse("", []byte(src), Limits{})
		if len(errs) > 0 {
			return
		}
		v, errs := Parse("", []byte(value), Limits{})
		if len(errs) > 0 || len(src)+len(value) > 32<<10 {
			return
		}
		sound := func(what string, out []byte, err error) bool {
			if err != nil && (strings.Contains(err.Error(), "BUG") || !strings.Contains(err.Error(), "elements, and") && !strings.Contains(err.Error(), "has no") &&
				!strings.Contains(err.Error(), "is not set") && !strings.Contains(err.Error(), "UTF-8") && !strings.Contains(err.Error(), "nested more than")) {
				t.Fatalf("%s(%q, %s, %s): %v", what, src, path, value, err)
			}
			return err == nil
		}
		merged, err := Merge([]byte(src), steps, v)
		sound("Merge", merged, err)
		if old := root.At(steps...); old != nil {
			out, err := Unset([]byte(src), steps)
			sound("Unset", out, err)
		}
		out, err := Set([]byte(src), steps, v)
		if !sound("Set", out, err) {
			return
		}
		at, parent := 0, root
		for at < len(steps) && parent.child(steps[at]) != nil {
			parent, at = parent.child(steps[at]), at+1
		}
		if at == len(steps) {
			return
		}
		back, err := Unset(out, steps[:at+1])
		if err != nil {
			t.Fatalf("Unset(Set(%q, %s, %s)): %v", src, path, value, err)
		}
		if len(parent.Members)+len(parent.Items) > 0 && string(back) != src {
			t.Fatalf("Set(%q, %s, %s)\n     %q\nback %q", src, path, value, out, back)
		}
	})
}
