package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"nearside/catalog"
	"nearside/shaping"
)

// The lines that explain tells people to write must be taken when they write
// them: for every flag that a profile says, and for every other one that can be
// turned off.
func TestLinesThatTurnFlagsOffAreTaken(t *testing.T) {
	lines := map[string]bool{}
	see := func(kind catalog.Kind, own catalog.Compat) {
		p := &catalog.Provider{ID: "lmstudio", API: catalog.Completions, BaseURL: "http://127.0.0.1:1234/v1", Near: true, Kind: kind}
		m := &catalog.Model{Provider: p, ID: "my-local-model", API: p.API, BaseURL: p.BaseURL, OwnCompat: own}
		s, err := shaping.New(m, m.Dialect(), shaping.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range s.Flags() {
			lines[f.Off] = f.Off != ""
		}
	}
	for _, p := range shaping.Profiles() {
		see(p.Kind, catalog.Compat{})
	}
	for _, value := range []bool{true, false} {
		var all catalog.Compat
		for _, f := range reflect.VisibleFields(reflect.TypeFor[catalog.Compat]()) {
			switch at := reflect.ValueOf(&all).Elem().FieldByIndex(f.Index).Addr().Interface().(type) {
			case **bool:
				*at = &value
			case *[]string:
				*at = []string{"low"}
			case *map[string]string:
				*at = map[string]string{"low": "high"}
			case *string:
				*at = "x"
			}
		}
		see(catalog.KindUnknown, all)
	}
	n := 0
	for line := range lines {
		if line == "" {
			continue
		}
		flag, ok := strings.CutPrefix(line, `proxy.models["lmstudio/my-local-model"].compat.`)
		if !ok {
			t.Errorf("%s is no line for the model", line)
			continue
		}
		n++
		text := fmt.Sprintf(`{proxy: {models: {"lmstudio/my-local-model": {compat: {%s}}}}}`, flag)
		_, problems := Load("config.json5", Options{LookupEnv: testEnv, Home: "/home/someone", ReadFile: func(string, int) ([]byte, error) { return []byte(text), nil }})
		if len(problems) > 0 {
			t.Errorf("%s: %s", line, problems)
		}
	}
	if n < 60 {
		t.Errorf("only %d lines were tried", n)
	}
}
