package shaping

import (
	"fmt"
	"strings"
	"testing"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// A few bytes of a schema can refer to many, and to themselves. What is made of
// them is bounded for all tools of a request together.
func TestReferencesOfSchemasAreBounded(t *testing.T) {
	const most = 16 << 20
	f := func(name string, tools int, schema string) {
		t.Helper()
		tool := `{"type":"function","function":{"name":"f","parameters":` + schema + `}}`
		body := `{"model":"m","messages":[],"tools":[` + tool + strings.Repeat(","+tool, tools-1) + `]}`
		got := shape(t, story{Kind: catalog.KindGemini}, body)
		if len(got.sent) > len(body)+most {
			t.Errorf("%s: %d bytes came and %d are sent", name, len(body), len(got.sent))
		}
		if !strings.Contains(got.dropped, "tools[*]..$ref") {
			t.Errorf("%s: %.300s is dropped, want the references that were not followed", name, got.dropped)
		}
	}
	many := func(n int, one string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, one+",", i)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	f("to a long text", 1, `{"type":"object","$defs":{"a":{"type":"string","description":"`+strings.Repeat("d", 1<<20)+`"}},"properties":{`+
		many(100, `"p%d":{"$ref":"#/$defs/a"}`)+`}}`)
	var twice strings.Builder
	for i := range schemaRefsMax {
		fmt.Fprintf(&twice, `"a%d":{"type":"object","properties":{"x":{"$ref":"#/$defs/a%d"},"y":{"$ref":"#/$defs/a%d"}}},`, i, i+1, i+1)
	}
	f("to two that refer to two", 20, `{"type":"object","$defs":{`+twice.String()+`"z":{}},"properties":{"p":{"$ref":"#/$defs/a0"}}}`)
}

// Unions of very many objects, properties and values must not cost their square:
// this one would take a minute.
func TestUnionsOfSchemasAreLinear(t *testing.T) {
	const n = 50_000
	var variants strings.Builder
	for k := range 2 {
		fmt.Fprintf(&variants, `{"type":"object","properties":{"e":{"enum":[%d]}`, k)
		for i := range n {
			fmt.Fprintf(&variants, `,"p%d":{"enum":[%d,7]}`, i, k)
		}
		variants.WriteString(`},"required":["e"`)
		for i := range n {
			fmt.Fprintf(&variants, `,"p%d"`, i)
		}
		variants.WriteString(`]},`)
	}
	one := strings.Repeat(`{"type":"object","properties":{"e":{"enum":[0,1,2]}},"required":["e"]},`, n)
	body := `{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"f","parameters":{"anyOf":[` + variants.String() + strings.TrimSuffix(one, ",") + `]}}}]}`
	for _, kind := range []catalog.Kind{catalog.KindXAI, catalog.KindGemini} {
		got := shape(t, story{Kind: kind}, body)
		tools, _ := wire.Get([]byte(got.sent), wire.Whole([]byte(got.sent)), "tools")
		want := `[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"e":{"enum":[0,1,2]},"p0":{"enum":[0,7,1]},"p1":`
		if sent := string(tools.Of([]byte(got.sent))); !strings.HasPrefix(sent, want) || !strings.Contains(sent, `},"required":["e"]`) {
			t.Errorf("%s: sent %.300s\nwant %s", kind, sent, want)
		}
	}
}
