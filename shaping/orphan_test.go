package shaping

import (
	"strings"
	"testing"

	"nearside/shaping/wire"
)

// An output without its call makes backends answer what nobody asked, or fail in
// words of their own.
func TestOrphan(t *testing.T) {
	f := func(items, want string) {
		t.Helper()
		body := []byte(`{"model":"m","input":` + items + `}`)
		var env wire.Envelope
		if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
			t.Fatal(err)
		}
		switch e := Orphan(body, &env); {
		case e == nil && want == "":
		case e == nil || want == "" || e.Status != 400 || e.Param != "input" || !strings.HasSuffix(e.Message, "call_id "+want+"."):
			t.Errorf("Orphan(%s)\n got %+v\nwant %q", items, e, want)
		}
	}
	call, output := `{"type":"function_call","call_id":"call_1","name":"f","arguments":"{}"}`, `{"type":"function_call_output","call_id":"call_1","output":"x"}`
	f(`"hi"`, "")
	f(`[{"role":"user","content":"hi"}]`, "")
	f(`[`+call+`,`+output+`]`, "")
	f(`[`+output+`,`+call+`]`, "") // the order is the translation's to mend
	f(`[`+output+`]`, "call_1")
	f(`[`+call+`,{"type":"function_call_output","call_id":"call_\u0031","output":"x"}]`, "")
	f(`[{"type":"custom_tool_call_output","call_id":"call_2","output":"x"},`+call+`]`, "call_2")
	f(`[{"type":"tool_search_output","call_id":null,"tools":[]},{"type":"function_call_output","output":"x","call_id":null}]`, "")
}
