package config

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"nearside/breaker"
	"nearside/proxy/config/json5"
	"nearside/upstream"
)

const reference = "../../config.json5"

// TestReferenceIsTheDefaults: the shipped file has no provider, so that
// discovery or the simulated backend answers, and every value in it is what
// holds without it.
func TestReferenceIsTheDefaults(t *testing.T) {
	opt := Options{LookupEnv: testEnv, Home: "/home/someone"}
	got, problems := Load(reference, opt)
	if len(problems) > 0 {
		t.Fatalf("config.json5: %s", problems)
	}
	want, _ := Load("", opt)
	if got.Configured {
		t.Error("config.json5 configures a provider")
	}
	for _, part := range []struct {
		name      string
		got, want any
	}{{"proxy", got.Proxy, want.Proxy}, {"log", got.Log, want.Log}, {"discovery", got.Discovery, want.Discovery}, {"simulate", got.Simulate, want.Simulate}} {
		if diff := cmp.Diff(part.want, part.got); diff != "" {
			t.Errorf("%s differs from the built-in defaults (-built in +config.json5):\n%s", part.name, diff)
		}
	}
	if len(got.Later)+len(got.Ignored)+len(got.Chains)+len(got.Aliases) > 0 {
		t.Errorf("config.json5 says more than defaults: %v %v %v %v", got.Later, got.Ignored, got.Chains, got.Aliases)
	}
}

// examples returns the reference with its examples switched on.
func examples(t *testing.T) string {
	t.Helper()
	src, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^( *)//(\S)`).ReplaceAllString(string(src), "$1$2")
}

// TestReferenceExamplesLoad: who removes the strokes gets a configuration, with
// the defaults of a near provider.
func TestReferenceExamplesLoad(t *testing.T) {
	// The files that the examples name are there.
	cert, key := certificate(t)
	c, problems := Load("config.json5", Options{LookupEnv: testEnv, Home: "/home/someone", ReadFile: func(path string, _ int) ([]byte, error) {
		switch path {
		case "config.json5":
			return []byte(examples(t)), nil
		case "cert.pem", "ca.pem":
			return cert, nil
		case "key.pem":
			return key, nil
		}
		return nil, os.ErrNotExist
	}})
	if errs := problems.Errors(); len(errs) > 0 {
		t.Fatalf("the examples: %s", errs)
	}
	for _, w := range problems {
		if !strings.Contains(w.Text, "OPENAI_API_KEY is not set") {
			t.Errorf("the examples: %s", w)
		}
	}
	b := c.backend(t, "lmstudio")
	if diff := cmp.Diff(breaker.Near(), b.Breaker); diff != "" {
		t.Errorf("the breaker of the examples: %s", diff)
	}
	if diff := cmp.Diff(upstream.DefaultLimits(true), b.Limits); diff != "" {
		t.Errorf("the limits of the examples: %s", diff)
	}
	if diff := cmp.Diff(upstream.DefaultDeadlines(true), b.Deadlines, cmpopts.IgnoreFields(upstream.Deadlines{}, "Explicit", "Headers", "FirstContent")); diff != "" {
		t.Errorf("the deadlines of the examples: %s", diff)
	}
}

// TestReferenceHasEverySetting: a setting that is not in the reference does not
// exist for its reader.
func TestReferenceHasEverySetting(t *testing.T) {
	tree, errs := json5.Parse("config.json5", []byte(examples(t)), json5.Limits{})
	if len(errs) > 0 {
		t.Fatal(errs[0])
	}
	if len(Settings()) < 50 {
		t.Fatalf("only %d settings are documented", len(Settings()))
	}
	for _, s := range Settings() {
		if s.Doc == "" {
			t.Errorf("%s has no documentation", s.Path)
		}
		at := tree
		for _, key := range strings.Split(s.Path, ".") {
			if key == "<id>" {
				key = "lmstudio"
			}
			if key == "<name>" {
				key = "laptop"
			}
			if key == "<ref>" {
				key = "lmstudio/my-local-model"
			}
			next := at.Get(key)
			if name, ok := strings.CutSuffix(key, "Seconds"); ok && next == nil {
				next = at.Get(name + "Ms")
			}
			if at = next; at == nil {
				t.Errorf("config.json5 does not mention %s", s.Path)
				break
			}
		}
	}
}

// The documentation's defaults are written as the file writes them.
func TestSettingsDefaultsAreJSON5(t *testing.T) {
	for _, s := range Settings() {
		for _, part := range strings.Split(s.Default, ", ") {
			part = strings.TrimSuffix(strings.TrimSuffix(part, " near"), " far")
			if part == "" || strings.HasPrefix(s.Default, "[") {
				continue
			}
			if _, errs := json5.Parse("", []byte(part), json5.Limits{}); len(errs) > 0 {
				t.Errorf("the default of %s is %q: %v", s.Path, s.Default, errs[0])
			}
		}
	}
}
