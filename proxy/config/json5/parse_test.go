package json5

import (
	"strings"
	"testing"

	gojson "github.com/goccy/go-json"
)

// TestParseReadsJSON5 holds what the language allows against strict JSON.
func TestParseReadsJSON5(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		v, errs := Parse("", []byte(in), Limits{})
		if len(errs) > 0 {
			t.Fatalf("Parse(%q): %v", in, errs[0])
		}
		got, err := v.AppendJSON(nil)
		if err != nil {
			t.Fatalf("AppendJSON(%q): %v", in, err)
		}
		if string(got) != want {
			t.Fatalf("Parse(%q)\n got %s\nwant %s", in, got, want)
		}
	}
	f("{}", "{}")
	f("{a:1,'b':2,\"c\":3,}", `{"a":1,"b":2,"c":3}`)
	f("[1,2,]", "[1,2]")
	f("[]", "[]")
	f("null", "null")
	f("true // yes", "true")
	f("/* a */ false /**/", "false")
	f("\ufeff{}", "{}")
	f("\u00a0\u2003\v\f{\u2028}\u2029", "{}")
	f("{$_a1: 1, ünï: 2, \\u0061b: 3, a\u200c: 4, null: 5, Infinity: 6, true: 7}",
		`{"$_a1":1,"ünï":2,"ab":3,"a`+"\u200c"+`":4,"null":5,"Infinity":6,"true":7}`)
	f("{'': 1}", `{"":1}`)

	f("+1", "1")
	f("-1", "-1")
	f(".5", "0.5")
	f("-.5", "-0.5")
	f("5.", "5")
	f("5.e3", "5e3")
	f("1E+2", "1E+2")
	f("0", "0")
	f("-0", "-0")
	f("0.0", "0.0")
	f("0xC8", "200")
	f("-0XfF", "-255")
	f("12345678901234567890123", "12345678901234567890123") // no digit is lost
	f("0xffffffffffffffffff", "4722366482869645213695")

	f(`'it"s'`, `"it\"s"`)
	f(`"it's"`, `"it's"`)
	f(`'\b\f\n\r\t\v\0\\\/\'\"\a'`, `"\u0008\u000c\n\r\t\u000b\u0000\\/'\"a"`)
	f(`'\x41\u00e9\ud83d\ude00'`, `"Aé😀"`)
	f("'a\\\nb\\\r\nc\\\rd\\\u2028e\\\u2029f'", `"abcdef"`)
	f("'a\u2028b\tc\x01'", `"a`+"\u2028"+`b\tc\u0001"`)
	f(`'\0a'`, `"\u0000a"`)
	f("\"\\\u00e9\"", `"é"`)
}

// TestParseRefuses holds the exact place and words of every error.
func TestParseRefuses(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		v, errs := Parse("f", []byte(in), Limits{})
		if len(errs) != 1 {
			t.Fatalf("Parse(%q): %d errors (value %+v), want one: %s", in, len(errs), v, want)
		}
		if got := errs[0].Error(); got != want {
			t.Fatalf("Parse(%q)\n got %s\nwant %s", in, got, want)
		}
	}
	f("", "f:1:1: the file is empty")
	f(" \n// only a comment", "f:2:18: the file is empty")
	f("{", "f:1:2: expected a key or '}', found the end of the file")
	f("{a}", `f:1:3: expected ':' after the key "a", found '}'`)
	f("{a:}", "f:1:4: expected a value, found '}'")
	f("{\n  a: 1\n  b: 2\n}", `f:3:3: expected ',' or '}' after the value of "a", found 'b'`)
	f("{,}", "f:1:2: expected a key or '}', found ','")
	f("{a:1,,}", "f:1:6: expected a key or '}', found ','")
	f("[,]", "f:1:2: expected a value, found ','")
	f("[1 2]", "f:1:4: expected ',' or ']' after an element of the array, found '2'")
	f(`["a" "b"]`, "f:1:6: expected ',' or ']' after an element of the array, found a string")
	f("{} {}", "f:1:4: unexpected '{' after the end of the document")
	f("{1: 2}", "f:1:2: expected a key or '}', found '1'")
	f(`{a\x41: 2}`, `f:1:3: only \u escapes are allowed in a key without quotes`)
	f(`{a\u00: 2}`, `f:1:3: \u needs four hexadecimal digits`)
	f(`{a\u002d: 2}`, `f:1:3: '-' cannot be part of a key without quotes`)
	f("{a-b: 2}", `f:1:3: expected ':' after the key "a", found '-'`)
	f("undefined", `f:1:1: "undefined" is not a value; a string needs quotes`)
	f("{model: lmstudio/x}", `f:1:9: "lmstudio" is not a value; a string needs quotes`)
	f("/* never closed", "f:1:1: the comment that starts here has no end")
	f("/ 1", "f:1:1: expected a value, found '/'")
	f("01", "f:1:1: a number must not start with 0")
	f("-01", "f:1:1: a number must not start with 0")
	f(".", "f:1:1: expected a number, found the end of the file")
	f("+", "f:1:1: expected a number, found the end of the file")
	f("--1", "f:1:1: expected a number, found '-'")
	f("1e", "f:1:1: the exponent of a number needs digits")
	f("0x", "f:1:1: 0x needs hexadecimal digits")
	f("0xg", "f:1:1: 0x needs hexadecimal digits")
	f("1a", "f:1:1: a number is followed by 'a'")
	f("1.2.3", "f:1:1: a number is followed by '.'")
	f("10s", "f:1:1: a number is followed by 's'")
	f("Infinityx", `f:1:1: "Infinityx" is not a value; a string needs quotes`)
	f(strings.Repeat("1", 513), "f:1:1: a number with more than 512 digits")
	f("'abc", "f:1:1: the string that starts here has no end in its line")
	f("{a: 'x\n'}", "f:1:5: the string that starts here has no end in its line")
	f(`'\1'`, `f:1:2: \1 is not an escape of JSON5; write \x01 for the character`)
	f(`'\01'`, `f:1:2: \0 must not be followed by a digit`)
	f(`'\x4'`, `f:1:2: \x needs two hexadecimal digits`)
	f(`'\u12'`, `f:1:2: \u needs four hexadecimal digits`)
	f(`'\ud800'`, `f:1:2: \ud800 is the first half of a pair without its second`)
	f(`'\ud800A'`, `f:1:2: \ud800 is the first half of a pair without its second`)
	f(`'\udc00'`, `f:1:2: \udc00 is the second half of a pair without its first`)
	f("'é\xff'", "f:1:3: a string with the byte 0xff, which is not UTF-8")
	f("'\\\xff'", `f:1:2: \ is followed by the byte 0xff, which is not UTF-8`)
	f("\xff", "f:1:1: expected a value, found the byte 0xff, which is not UTF-8")
	f("{a: 1, b: 2,\r\n é: 3, 'a': 4}", `f:2:8: the key "a" was already given in line 1`)
	f("{a:1\r\rb:2}", `f:3:1: expected ',' or '}' after the value of "a", found 'b'`)
	f("'\U0001F600' x", "f:1:5: unexpected 'x' after the end of the document")
	f(strings.Repeat("[", 65)+strings.Repeat("]", 65), "f:1:65: nested more than 64 deep")
	f(strings.Repeat(" ", DefaultBytes)+"1", "f:1:1: the file has 1048577 bytes, more than the 1048576 allowed")
}

func TestParseReportsEveryRepeatedKey(t *testing.T) {
	v, errs := Parse("f", []byte("{a: 1, a: 2, b: {c: 1, c: 2}, a: 3}"), Limits{})
	var got []string
	for _, e := range errs {
		got = append(got, e.Error())
	}
	want := `f:1:8: the key "a" was already given in line 1
f:1:24: the key "c" was already given in line 1
f:1:31: the key "a" was already given in line 1`
	if strings.Join(got, "\n") != want {
		t.Fatalf("errors\n got %s\nwant %s", strings.Join(got, "\n"), want)
	}
	if n, _ := v.Get("a").Int(); n != 1 {
		t.Fatalf("a = %d, want the first of the values, 1", n)
	}
}

func TestValuesKnowTheirPlace(t *testing.T) {
	v, errs := Parse("f", []byte("{\n  // é\n  a: [1,\n\t'é', {b: true}],\n}"), Limits{})
	if len(errs) > 0 {
		t.Fatal(errs[0])
	}
	f := func(name string, got Pos, want string) {
		t.Helper()
		if got.String() != want {
			t.Fatalf("%s is at %s, want %s", name, got, want)
		}
	}
	f("the object", v.Pos, "f:1:1")
	f("key a", v.Members[0].Pos, "f:3:3")
	a := v.Get("a")
	f("the array", a.Pos, "f:3:6")
	f("1", a.Items[0].Pos, "f:3:7")
	f("'é'", a.Items[1].Pos, "f:4:2")
	f("key b", a.Items[2].Members[0].Pos, "f:4:8")
	f("true", a.Items[2].Get("b").Pos, "f:4:11")
}

func TestNumbersThatNoSettingCanMean(t *testing.T) {
	f := func(in, wantInt, wantFloat string) {
		t.Helper()
		v, errs := Parse("", []byte(in), Limits{})
		if len(errs) > 0 {
			t.Fatalf("Parse(%q): %v", in, errs[0])
		}
		said := func(err error) string {
			if err == nil {
				return ""
			}
			return err.Error()
		}
		_, err := v.Int()
		if said(err) != wantInt {
			t.Fatalf("Int of %s\n got %q\nwant %q", in, said(err), wantInt)
		}
		_, err = v.Float()
		if said(err) != wantFloat {
			t.Fatalf("Float of %s\n got %q\nwant %q", in, said(err), wantFloat)
		}
	}
	const finite = "must be a finite number"
	f("NaN", finite, finite)
	f("-NaN", finite, finite)
	f("Infinity", finite, finite)
	f("+Infinity", finite, finite)
	f("-Infinity", finite, finite)
	f("1e999", "1e999 is out of range", "1e999 is out of range")
	f("1.5", "must be a whole number", "")
	f("5.0", "", "")
	f("1e3", "", "")
	f("9223372036854775807", "", "")
	f("9223372036854775808", "9223372036854775808 is out of range", "")
	f("0x7fffffffffffffff", "", "")
	f("'1'", "is not a number", "is not a number")

	v, _ := Parse("f", []byte("{a: [\n NaN]}"), Limits{})
	if _, err := v.AppendJSON(nil); err == nil || err.Error() != "f:2:2: must be a finite number" {
		t.Fatalf("AppendJSON of NaN: %v, want its place", err)
	}
}

// FuzzParse: no text may panic, and what is read must survive as strict JSON:
// readable by another parser and equal when read again.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"{a: [1, .5, 0xff, -Infinity, NaN, 'x\\\ny', \"\\ud83d\\ude00\"], 'b': {c: null,},}",
		"// c\n/* d */ {\\u0061: +1e-5}", "\ufeff[]", "'\\x00\\0\\v'", "{\"a\":{\"a\":{}}}", "1.e1", "'\xff'",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		v, errs := Parse("f", src, Limits{})
		for _, e := range errs {
			if e.Pos.Line < 1 || e.Pos.Col < 1 || e.Text == "" {
				t.Fatalf("an error without a place or words: %+v", e)
			}
		}
		if len(errs) > 0 {
			return
		}
		text, err := v.AppendJSON(nil)
		if err != nil {
			return // Infinity and NaN
		}
		if !gojson.Valid(text) {
			t.Fatalf("%q became %q, which is not JSON", src, text)
		}
		again, errs := Parse("f", text, Limits{Bytes: 8 * DefaultBytes})
		if len(errs) > 0 {
			t.Fatalf("%q became %q, which is not JSON5: %v", src, text, errs[0])
		}
		if second, err := again.AppendJSON(nil); err != nil || string(second) != string(text) {
			t.Fatalf("%q became %q and then %q (%v)", src, text, second, err)
		}
	})
}
