package shaping

import (
	"fmt"
	"strings"
	"testing"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// What is held against a window is what is sent: tools that stay count, those
// that are left out do not, and no text of the messages is taken for theirs.
func TestLeftOutToolsDoNotCount(t *testing.T) {
	on, off := true, false
	long := strings.Repeat("d", 1000)
	var tools []string
	for _, name := range []string{"read", "browser", "write", "cron"} {
		tools = append(tools, fmt.Sprintf("{\n    \"type\": \"function\",\n    \"function\": {\"name\": %q, \"description\": %q}\n  }", name, long))
	}
	body := []byte(`{"model":"m","messages":[],"tools":[` + strings.Join(tools, ",") + `]}`)
	var env wire.Envelope
	if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
		t.Fatal(err)
	}
	f := func(want int, c catalog.Compat) {
		t.Helper()
		s, err := New(story{Compat: c}.model(), wire.Chat, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.LeftOut(body, &env); got < int64(want)*1000 || got > int64(want)*1060 {
			t.Errorf("%+v: %d bytes are left out, want those of %d tools", c.Own, got, want)
		}
		if got, all := s.LeftOut(body, &env), env.TextBytes; got > all {
			t.Errorf("%+v: %d bytes are left out of %d", c.Own, got, all)
		}
	}
	f(0, catalog.Compat{})
	f(4, catalog.Compat{SupportsTools: &off})
	f(2, catalog.Compat{Own: catalog.Own{Lean: &on}})
	f(1, catalog.Compat{Own: catalog.Own{DropTools: []string{"write", "none"}}})
	f(3, catalog.Compat{Own: catalog.Own{MaxTools: 1}})
	f(2, catalog.Compat{Own: catalog.Own{MaxToolSchemaBytes: 2400}})
}
