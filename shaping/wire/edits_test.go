package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func editing(t testing.TB, body string) (*Edits, []byte) {
	t.Helper()
	var env Envelope
	if err := Scan([]byte(body), ScanLimits{}, &env); err != nil {
		t.Fatal(err)
	}
	var e Edits
	e.Reset([]byte(body), &env)
	return &e, []byte(body)
}

// Commas are what goes wrong: each place, alone and side by side.
func TestEditsKeepCommas(t *testing.T) {
	f := func(body, want string, change func(e *Edits)) {
		t.Helper()
		e, p := editing(t, body)
		change(e)
		edits := e.List()
		got := string(Splice(nil, p, edits))
		if got != want {
			t.Fatalf("edits of %s\n got %s\nwant %s", body, got, want)
		}
		if n := SplicedLen(p, edits); n != len(want) {
			t.Fatalf("SplicedLen: got %d, want %d", n, len(want))
		}
		if s := bytes.Join(Segments(nil, p, edits), nil); string(s) != want {
			t.Fatalf("Segments: got %s, want %s", s, want)
		}
		if again := string(Splice(nil, p, e.List())); again != want {
			t.Fatalf("second List: got %s, want %s", again, want)
		}
	}
	remove := func(keys ...string) func(*Edits) {
		return func(e *Edits) {
			for _, k := range keys {
				e.Remove(k)
			}
		}
	}
	v := func(s string) []byte { return []byte(s) }
	const abc = `{"a":1, "b":2 ,"c":3}`
	f(abc, abc, func(*Edits) {})
	f(abc, `{"b":2 ,"c":3}`, remove("a"))
	f(abc, `{"a":1, "c":3}`, remove("b"))
	f(abc, `{"a":1, "b":2}`, remove("c"))
	f(abc, `{"c":3}`, remove("b", "a"))
	f(abc, `{"a":1}`, remove("c", "b"))
	f(abc, `{"b":2}`, remove("a", "c"))
	f(abc, `{}`, remove("a", "b", "c"))
	f(abc, abc, remove("x"))
	f(`{"a":1}`, `{}`, remove("a", "a"))
	f(`{ }`, `{"x":1 }`, func(e *Edits) { e.Set("x", v("1")) })
	f(abc, `{"a":1, "b":2 ,"c":3,"x":1,"y":2}`, func(e *Edits) { e.Set("x", v("0")); e.Set("y", v("2")); e.Set("x", v("1")) })
	f(abc, `{"x":1}`, func(e *Edits) { remove("a", "b", "c")(e); e.Set("x", v("1")) })
	f(abc, `{"a":1, "b":2,"x":1}`, func(e *Edits) { e.Set("x", v("1")); e.Remove("c") })
	f(abc, `{"a":1, "b":9 ,"c":3}`, func(e *Edits) { e.Remove("b"); e.Set("b", v("9")) })
	f(abc, `{"a":1, "c":3}`, func(e *Edits) { e.Set("b", v("9")); e.Remove("b") })
	f(abc, abc, func(e *Edits) { e.Set("x", v("9")); e.Remove("x") })
	f(abc, `{"a":1, "z":2 ,"c":3}`, func(e *Edits) { e.Rename("b", "z") })
	f(abc, `{"a":1, "b":8 ,"c":3}`, func(e *Edits) { e.Set("b", v("9")); e.Set("b", v("8")) })

	const nested = `{"m":[{"r":"x","n":1},{"r":"y"}],"o":{}}`
	first := func(e *Edits) (array, object Span) {
		array, _ = e.env.Field(e.body, "m")
		object, _ = Get(e.body, array, "0")
		return array, object
	}
	f(nested, `{"m":[{"r":"x","k":2},{"r":"y"}],"o":{"q":[]}}`, func(e *Edits) {
		_, o := first(e)
		e.RemoveIn(o, "n")
		e.SetIn(o, "k", v("2"))
		at, _ := e.env.Field(e.body, "o")
		e.SetIn(at, "q", v("[]"))
	})
	f(nested, `{"m":[{"r":"y"},null],"o":{}}`, func(e *Edits) {
		a, o := first(e)
		e.SetIn(o, "r", v(`"dropped with its object"`))
		e.RemoveElement(a, o)
		e.Append(a, v("null"))
	})
	f(nested, `{"m":0,"o":{}}`, func(e *Edits) {
		a, o := first(e)
		e.RemoveIn(o, "n")
		e.Set("m", v("0"))
		e.SetIn(o, "z", v("1"))
		e.Append(a, v("1"))
	})
	f(nested, `{"o":{}}`, func(e *Edits) {
		_, o := first(e)
		e.Remove("m")
		e.SetIn(o, "r", v("1"))
	})
	f(nested, nested, func(e *Edits) { e.SetIn(Span{13, 16}, "a", v("1")) }) // a string is no object
}

// Whatever is set and removed, decoding the splice must give what decoding,
// changing and encoding gives.
func TestEditsAgreeWithDecoding(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pad := func() string { return strings.Repeat(" ", r.IntN(3)) }
	for round := range 3000 {
		var b strings.Builder
		want := map[string]any{}
		b.WriteString(pad() + "{")
		for i := range r.IntN(6) {
			if i > 0 {
				b.WriteString(pad() + ",")
			}
			inner := map[string]any{}
			fmt.Fprintf(&b, `%s"k%d":%s{`, pad(), i, pad())
			for k := range r.IntN(3) {
				if k > 0 {
					b.WriteString("," + pad())
				}
				fmt.Fprintf(&b, `"n%d":%d`, k, k)
				inner[fmt.Sprintf("n%d", k)] = float64(k)
			}
			b.WriteString("}" + pad())
			want[fmt.Sprintf("k%d", i)] = inner
		}
		b.WriteString("}" + pad())
		e, body := editing(t, b.String())
		replaced := map[string]bool{}
		for range r.IntN(8) {
			key, sub := fmt.Sprintf("k%d", r.IntN(8)), fmt.Sprintf("n%d", r.IntN(4))
			at, inBody := e.env.Field(body, key)
			switch op := r.IntN(4); {
			case op == 0:
				e.Remove(key)
				delete(want, key)
				replaced[key] = true
			case op == 1:
				n := r.IntN(100)
				e.Set(key, fmt.Append(nil, n))
				want[key] = float64(n)
				replaced[key] = true
			case !inBody || replaced[key]: // a later nested change is dropped
				if inBody {
					e.SetIn(at, sub, []byte("0"))
				}
			case op == 2:
				e.RemoveIn(at, sub)
				delete(want[key].(map[string]any), sub)
			case op == 3:
				e.SetIn(at, sub, []byte("7"))
				want[key].(map[string]any)[sub] = 7.0
			}
		}
		got := Splice(nil, body, e.List())
		var have map[string]any
		if err := json.Unmarshal(got, &have); err != nil {
			t.Fatalf("round %d: %s became %s: %v", round, body, got, err)
		}
		if d := cmp.Diff(want, have); d != "" {
			t.Fatalf("round %d: %s became %s (-want +got)\n%s", round, body, got, d)
		}
		for i := 1; i < len(e.list); i++ {
			if e.list[i].Start < e.list[i-1].End {
				t.Fatalf("round %d: edits overlap: %v", round, e.list)
			}
		}
	}
}

func TestEditsDoNotAllocate(t *testing.T) {
	e, body := editing(t, string(agentBody(20<<10)))
	env := e.env
	tool, _ := Get(body, env.Tools, "0", "function")
	model, yes := []byte(`"m"`), []byte("true")
	dst := make([]byte, 0, 2*len(body))
	change := func() {
		e.Reset(body, env)
		e.Set("model", model)
		e.Set("store", yes)
		e.Remove("temperature")
		e.Remove("stream_options")
		e.Rename("stream", "flow")
		e.RemoveIn(tool, "description")
		e.SetIn(tool, "strict", yes)
		dst = Splice(dst[:0], body, e.List())
	}
	change()
	if !json.Valid(dst) {
		t.Fatalf("got no JSON: %s", dst)
	}
	if n := testing.AllocsPerRun(20, change); n != 0 {
		t.Fatalf("got %v allocations, want 0", n)
	}
}

func BenchmarkSpliceModel(b *testing.B) {
	e, body := editing(b, string(agentBody(100<<10)))
	env := e.env
	var segs [][]byte
	b.ReportAllocs()
	for b.Loop() {
		e.Reset(body, env)
		e.Set("model", []byte(`"other"`))
		segs = Segments(segs[:0], body, e.List())
	}
}

// Operations on one object count together wherever those on others stand between
// them, also after a List, which orders them anew.
func TestEditsGoBackToAnObject(t *testing.T) {
	e, p := editing(t, `{"l":[{"a":1},{"a":2},{"a":3}]}`)
	var objects []Span
	for it := Elements(p, Span{5, len(p)}); it.Next(); {
		objects = append(objects, it.Value)
	}
	f := func(want string) {
		t.Helper()
		if got := string(Splice(nil, p, e.List())); got != want {
			t.Fatalf("\n got %s\nwant %s", got, want)
		}
	}
	for _, i := range []int{0, 1, 0, 2, 1} {
		e.SetIn(objects[i], "b", []byte(`7`))
		e.RemoveIn(objects[i], "a")
	}
	f(`{"l":[{"b":7},{"b":7},{"b":7}]}`)
	e.SetIn(objects[2], "b", []byte(`8`))
	e.SetIn(objects[0], "a", []byte(`9`))
	e.RemoveIn(objects[1], "b")
	f(`{"l":[{"a":9,"b":7},{},{"b":8}]}`)
}

// What is done to each object of a long list costs by its length, not its
// square.
func BenchmarkEditsInManyObjects(b *testing.B) {
	for _, n := range []int{1000, 32000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := []byte("[" + strings.Repeat(`{"name":"a"},`, n-1) + `{"name":"a"}]`)
			var e Edits
			for b.Loop() {
				e.Reset(p, nil)
				for it := Elements(p, Whole(p)); it.Next(); {
					e.RemoveIn(it.Value, "name")
					e.SetIn(it.Value, "nick", []byte(`"a"`))
				}
				e.List()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/object")
		})
	}
}
