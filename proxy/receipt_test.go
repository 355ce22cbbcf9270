package proxy

import (
	"reflect"
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
	r := &Receipt{basics: basics{ID: "req_1", Started: time.Unix(7, 0).UTC(), Model: "near/<m>", Usage: wire.Usage{Input: 1, Output: 2, Cached: 3, CacheWrite: 4, Reasoning: 5, Total: 6}, HasUsage: true},
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

// What a receipt says beyond its basics is kept, whatever it is: a plain one comes back
// as it was, and any other is kept whole.
func TestReceiptsLoseNothing(t *testing.T) {
	made := func() *Receipt {
		r := newReceipt(nil)
		fill(reflect.ValueOf(&r.basics).Elem())
		r.Outcome = "ok"
		r.Attempts = append(r.Attempts, r.served("key", "answer", 3, 4))
		return r
	}
	back := func(r *Receipt) (*Receipt, bool) {
		var g ring
		g.resize(2)
		var b brief
		plain := r.isPlain()
		b.take(r, plain)
		g.put(&b)
		return g.last(1, nil)[0], plain
	}
	r := made()
	got, plain := back(r)
	if !plain || got == r || !reflect.DeepEqual(got, r) {
		t.Errorf("plain %v, got %+v\nwant %+v", plain, got, r)
	}
	whole := func(name string, r *Receipt) {
		t.Helper()
		if got, plain := back(r); plain || got != r {
			t.Errorf("%s: a receipt with it is taken for a plain one", name)
		}
	}
	for ty, i := reflect.TypeFor[Receipt](), 0; i < ty.NumField(); i++ {
		if name := ty.Field(i).Name; name != "basics" && name != "Attempts" && name != "first" {
			r := made()
			fill(reflect.ValueOf(r).Elem().Field(i))
			whole(name, r)
		}
	}
	for ty, i := reflect.TypeFor[Attempt](), 0; i < ty.NumField(); i++ {
		if name := ty.Field(i).Name; name != "Key" && name != "Phase" && name != "At" && name != "Took" {
			r := made()
			f := reflect.ValueOf(&r.Attempts[0]).Elem().Field(i)
			if f = reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem(); f.Kind() == reflect.Bool {
				f.SetBool(!f.Bool())
			} else if f.Kind() == reflect.String {
				f.SetString("another")
			} else {
				fill(f)
			}
			whole("Attempt."+name, r)
		}
	}
	r = made()
	r.Attempts = nil
	whole("no attempt", r)
	r = made()
	r.Attempts = append(r.Attempts, r.Attempts[0])
	whole("two attempts", r)
	r = made()
	r.Outcome = "error"
	whole("an error", r)
}

// fill sets what v holds to values that are not zero.
func fill(v reflect.Value) {
	v = reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Elem()
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(5, 0)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.String:
		v.SetString("said")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8:
		v.SetUint(7)
	case reflect.Float64:
		v.SetFloat(7)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	default:
		panic("fill: " + v.Type().String())
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
