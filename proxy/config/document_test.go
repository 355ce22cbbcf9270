package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nearside/proxy/config/json5"
)

// written writes files and returns the path of main.json5.
func written(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "main.json5")
}

func document(t *testing.T, path string) *Document {
	t.Helper()
	d, err := OpenDocument(path, Options{LookupEnv: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func steps(t *testing.T, path string) []json5.Step {
	t.Helper()
	s, err := json5.ParsePath(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func value(t *testing.T, text string) *json5.Value {
	t.Helper()
	v, errs := json5.Parse("", []byte(text), json5.Limits{})
	if len(errs) > 0 {
		t.Fatal(errs[0])
	}
	return v
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A setting is changed in the file that somebody wrote it into; where no single
// file is the right one, the files are named and none is touched.
func TestDocumentChangesTheFileThatASettingLivesIn(t *testing.T) {
	files := map[string]string{
		"main.json5":      "{\n  // ours\n  models: { providers: { $include: ['./a.json5', './b.json5'] } },\n  agents: { $include: './agents.json5', defaults: { timeoutSeconds: 9 } },\n  proxy: { limits: { $include: './limits.json5' }, chains: { $include: './chains.json5' } },\n}\n",
		"a.json5":         "{\n  a: { baseUrl: 'http://127.0.0.1:1/v1', models: [{ id: 'x' }] }, // a\n}\n",
		"b.json5":         "{ b: { baseUrl: 'http://127.0.0.1:2/v1', models: [{ id: 'y' }] }, a: { timeoutSeconds: 5 } }\n",
		"agents.json5":    "{ defaults: { model: { primary: 'a/x' }, timeoutSeconds: 8 } }\n",
		"limits.json5":    "{ depth: 64 }\n",
		"chains.json5":    "{ $include: './same.json5' }\n",
		"same.json5":      "{ quick: { primary: 'a/x' } }\n",
		"unrelated.json5": "{}\n",
	}
	f := func(path, want string, change func(d *Document) error) {
		t.Helper()
		main := written(t, files)
		d := document(t, main)
		err := change(d)
		if err == nil {
			err = d.Write()
		}
		if err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Fatalf("%s: %v, want %q", path, err, want)
			}
			return
		}
		file, line, _ := strings.Cut(want, ": ")
		for name, was := range files {
			now := content(t, filepath.Join(filepath.Dir(main), name))
			switch {
			case name == file && !strings.Contains(now, line):
				t.Fatalf("%s: %s holds\n%s\nwant %q", path, name, now, line)
			case name != file && now != was:
				t.Fatalf("%s: %s was changed, want %s alone\n%s", path, name, file, now)
			}
		}
	}
	set := func(path, v, want string) {
		t.Helper()
		f(path, want, func(d *Document) error { return d.Set(steps(t, path), value(t, v)) })
	}
	set("models.providers.a.baseUrl", "'http://127.0.0.1:9/v1'", "a.json5: 127.0.0.1:9")
	set("models.providers.a.timeoutSeconds", "7", "b.json5: a: { timeoutSeconds: 7 }")
	set("models.providers.b.models[0].reasoning", "true", "b.json5: { id: 'y', reasoning: true }")
	set("agents.defaults.timeoutSeconds", "7", "main.json5: timeoutSeconds: 7") // which stands above the included one
	set("agents.defaults.model.primary", "'b/y'", "agents.json5: 'b/y'")
	set("proxy.limits.depth", "7", "limits.json5: { depth: 7 }")
	set("proxy.limits.fields", "7", "limits.json5: { depth: 64, fields: 7 }") // where its siblings are
	set("proxy.chains.slow", "{ primary: 'b/y' }", "same.json5: slow: { primary: 'b/y' }")
	set("proxy.exchangesKept", "7", "main.json5: exchangesKept: 7")
	set("models.providers.a", "{}", "is written in")
	set("models.providers", "{}", "is written in")
	f("unset of what two say", "is written in", func(d *Document) error { return d.Unset(steps(t, "agents.defaults.timeoutSeconds")) })
	f("unset of a whole file", "by hand", func(d *Document) error { return d.Unset(steps(t, "proxy.limits")) })
	f("merge", "a.json5: models: [{ id: 'x' }, { id: 'z' }]", func(d *Document) error {
		return d.Merge(steps(t, "models.providers"), value(t, "{a: {models: [{id: 'z'}]}}"))
	})

	twice := written(t, map[string]string{
		"main.json5": "{ proxy: { providers: { a: { breaker: { $include: './x.json5' } }, b: { breaker: { $include: './x.json5' } } } } }",
		"x.json5":    "{ consecutive: 3 }",
	})
	d := document(t, twice)
	if err := d.Set(steps(t, "proxy.providers.a.breaker.consecutive"), value(t, "4")); err == nil || !strings.Contains(err.Error(), "x.json5 is included at") {
		t.Errorf("a file that stands at two places: %v", err)
	}
}

// A credential must not reach a screen or a paste because a setting beside it
// was looked at.
func TestDocumentMasksCredentials(t *testing.T) {
	secrets := []string{"sk-one", "sk-two", "sk-three", "sk-four", "sk-five", "sk-six"}
	src := `{
  models: { providers: { p: { baseUrl: "https://x.example/v1", apiKey: "sk-one", headers: { "x-key": 'sk-two', Authorization: "Bearer ${P_KEY}" },
    request: { auth: { mode: "bearer", token: "sk-three" } }, models: [{ id: "m", headers: { a: "sk-four" } }] } } },
  proxy: { providers: { p: { apiKeys: ["${OTHER_KEY}", "sk-five"] } } },
  channels: { chat: { botToken: "sk-six", name: "plain" } },
}`
	d := document(t, written(t, map[string]string{"main.json5": src}))
	all, _ := d.Get(nil, false)
	_, text := d.Texts(d.path)
	for name, shown := range map[string]string{"get": json5.Format(all), "text": string(text)} {
		for _, s := range secrets {
			if strings.Contains(shown, s) {
				t.Errorf("%s shows %s\n%s", name, s, shown)
			}
		}
		for _, s := range []string{"Bearer ${P_KEY}", "${OTHER_KEY}", "https://x.example/v1", "plain"} {
			if !strings.Contains(shown, s) {
				t.Errorf("%s hides %s\n%s", name, s, shown)
			}
		}
	}
	one, _ := d.Get(steps(t, "proxy.providers.p.apiKeys[1]"), false)
	if one.Text != Mask {
		t.Errorf("a single one is shown as %q", one.Text)
	}
	if open, _ := d.Get(steps(t, "models.providers.p.apiKey"), true); open.Text != "sk-one" {
		t.Errorf("reveal shows %q", open.Text)
	}
}

func TestDocumentKeepsModeAndLinks(t *testing.T) {
	main := written(t, map[string]string{"real.json5": "{ proxy: { exchangesKept: 1 } }\n"})
	if err := os.Symlink("real.json5", main); err != nil {
		t.Fatal(err)
	}
	d := document(t, main)
	if err := d.Set(steps(t, "proxy.exchangesKept"), value(t, "2")); err != nil {
		t.Fatal(err)
	}
	if err := d.Write(); err != nil {
		t.Fatal(err)
	}
	real := filepath.Join(filepath.Dir(main), "real.json5")
	link, err := os.Readlink(main)
	if info, _ := os.Stat(real); err != nil || link != "real.json5" || info.Mode().Perm() != 0o640 || content(t, real) != "{ proxy: { exchangesKept: 2 } }\n" {
		t.Errorf("link %q (%v), mode %v, text %q", link, err, info.Mode(), content(t, real))
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(main), ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}

	// Whoever saved the file in an editor meanwhile does not lose that.
	d = document(t, main)
	if err := d.Set(steps(t, "proxy.exchangesKept"), value(t, "3")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(real, []byte("{ proxy: {} }"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Write(); err == nil || !strings.Contains(err.Error(), "somebody else") || content(t, real) != "{ proxy: {} }" {
		t.Errorf("a change of somebody else is written over: %v, %q", err, content(t, real))
	}
}
