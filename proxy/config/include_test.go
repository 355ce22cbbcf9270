package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// folder writes files below a new folder and returns it.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		write(t, filepath.Join(dir, name), content)
	}
	return dir
}

func TestIncludesMerge(t *testing.T) {
	dir := folder(t, map[string]string{
		"config.json5": `{
			$include: ['./a.json5', './sub/b.json5'],
			models: {providers: {local: {timeoutSeconds: 9}}},
			agents: {$include: './agents.json5'},
		}`,
		"a.json5":         `{models: {mode: 'replace', providers: {local: {baseUrl: 'http://localhost:1/v1', timeoutSeconds: 1, models: [{id: 'a'}]}}}}`,
		"sub/b.json5":     `{models: {providers: {local: {baseUrl: 'http://localhost:2/v1', models: [{id: 'b'}]}, other: {$include: 'other.json5'}}}}`,
		"sub/other.json5": `{baseUrl: 'http://localhost:3/v1'}`,
		"agents.json5":    `{defaults: {model: 'local/a'}}`,
	})
	c, problems := Load(filepath.Join(dir, "config.json5"), Options{LookupEnv: testEnv})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	p := c.provider("local")
	if p.BaseURL != "http://localhost:2/v1" || len(p.Models) != 2 || p.Models[0].ID != "a" || p.Models[1].ID != "b" {
		t.Errorf("local: %+v", p)
	}
	if got := c.backend(t, "local").Deadlines.Gap.Seconds(); got != 9 {
		t.Errorf("timeoutSeconds: %v, want 9: what stands beside the include wins", got)
	}
	if c.provider("other") == nil || c.chain("default") != "local/a" {
		t.Errorf("other %v, default chain %s", c.provider("other"), c.chain("default"))
	}
	var files []string
	for _, f := range c.Files {
		files = append(files, strings.TrimPrefix(f, dir+"/"))
	}
	if diff := cmp.Diff([]string{"config.json5", "agents.json5", "a.json5", "sub/b.json5", "sub/other.json5"}, files); diff != "" {
		t.Errorf("files to watch: %s", diff)
	}
}

// A mistake in an included file is told with that file's name, line and column.
func TestIncludedMistakesHaveTheirOwnPlace(t *testing.T) {
	dir := folder(t, map[string]string{
		"config.json5": `{models: {$include: 'models.json5'}}`,
		"models.json5": "{\n  mode: 'merge',\n  provider: {},\n}",
	})
	_, problems := Load(filepath.Join(dir, "config.json5"), Options{LookupEnv: testEnv})
	want := filepath.Join(dir, "models.json5") + `:3:3: models.provider: unknown key (did you mean "providers"?)`
	if problems.String() != want {
		t.Fatalf("problems\n got %s\nwant %s", problems, want)
	}
}

func TestIncludeLimits(t *testing.T) {
	f := func(want string, dir string, env map[string]string) {
		t.Helper()
		_, problems := Load(filepath.Join(dir, "config.json5"), Options{LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
		got := strings.ReplaceAll(problems.String(), dir+string(filepath.Separator), "")
		if got != want {
			t.Errorf("problems\n got %s\nwant %s", got, want)
		}
	}
	const provider = `{local: {baseUrl: 'http://localhost:1/v1'}}`
	including := func(file string) string { return fmt.Sprintf(`{models: {providers: {$include: '%s'}}}`, file) }

	elsewhere := folder(t, map[string]string{"p.json5": provider})
	dir := folder(t, map[string]string{"config.json5": including(filepath.Join(elsewhere, "p.json5"))})
	f("config.json5:1:33: models.providers.$include: "+elsewhere+"/p.json5 is outside the configuration's folder", dir, nil)
	f("", dir, map[string]string{"OPENCLAW_INCLUDE_ROOTS": "relative" + string(filepath.ListSeparator) + elsewhere})

	dir = folder(t, map[string]string{"config.json5": including("./p.json5")})
	must(t, os.Symlink(filepath.Join(elsewhere, "p.json5"), filepath.Join(dir, "p.json5")))
	f("config.json5:1:33: models.providers.$include: ./p.json5 leads outside the configuration's folder", dir, nil)

	dir = folder(t, map[string]string{"config.json5": including("p.json5"), "real.json5": provider})
	must(t, os.Symlink("real.json5", filepath.Join(dir, "p.json5")))
	f("", dir, nil)

	must(t, os.Remove(filepath.Join(dir, "p.json5")))
	must(t, os.Link(filepath.Join(dir, "real.json5"), filepath.Join(dir, "p.json5")))
	f("config.json5:1:33: models.providers.$include: p.json5 has more than one hard link", dir, nil)

	dir = folder(t, map[string]string{"config.json5": including("p.json5"), "p.json5/x": ""})
	f("config.json5:1:33: models.providers.$include: p.json5 is not a regular file", dir, nil)

	files := map[string]string{"config.json5": `{$include: '1.json5'}`}
	for i := 1; i <= 11; i++ {
		files[fmt.Sprintf("%d.json5", i)] = fmt.Sprintf(`{$include: '%d.json5'}`, i+1)
	}
	dir = folder(t, files)
	f("10.json5:1:12: $include: includes nested more than 10 deep", dir, nil)

	dir = folder(t, map[string]string{"config.json5": `{$include: 'a.json5'}`, "a.json5": `{models: {$include: './b.json5'}}`, "b.json5": `{$include: './x/../a.json5'}`})
	f("b.json5:1:12: models.$include: ./x/../a.json5 includes itself", dir, nil)

	dir = folder(t, map[string]string{"config.json5": `{$include: 'a.json5'}`, "a.json5": `{` + strings.Repeat(" ", includeBytesMax) + `}`})
	f("config.json5:1:12: $include: a.json5: has more than the 2097152 bytes allowed", dir, nil)

	dir = folder(t, map[string]string{"config.json5": `{agents: {$include: 'a.json5', list: []}}`, "a.json5": `[]`})
	f("config.json5:1:11: agents.$include: the included file must hold an object, because other keys stand beside $include", dir, nil)

	// Each file includes the next twice: 2^10 readings without a bound.
	files = map[string]string{"config.json5": `{$include: ['1.json5', '1.json5']}`, "10.json5": `{}`}
	for i := 1; i < 10; i++ {
		files[fmt.Sprintf("%d.json5", i)] = fmt.Sprintf(`{$include: ['%d.json5', '%d.json5']}`, i+1, i+1)
	}
	dir = folder(t, files)
	_, problems := Load(filepath.Join(dir, "config.json5"), Options{LookupEnv: testEnv})
	if len(problems) == 0 || !strings.Contains(problems[0].Text, "more than 256 files") {
		t.Errorf("an avalanche of includes: %.300s", problems)
	}
}

func TestFindLooksInOrder(t *testing.T) {
	dir := folder(t, map[string]string{"flag.json5": "{}", "env.json5": "{}"})
	t.Chdir(dir)
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("HOME", home)
	env := map[string]string{}
	f := func(flag, want, wantErr string) {
		t.Helper()
		got, err := Find(flag, func(name string) string { return env[name] })
		said := ""
		if err != nil {
			said = err.Error()
		}
		if got != want || !strings.HasPrefix(said, wantErr) || said != "" && wantErr == "" {
			t.Errorf("Find(%q)\n got %q %q\nwant %q %q", flag, got, said, want, wantErr)
		}
	}
	f("", "", "no configuration file (looked for config.json5 and ")
	user, err := os.UserConfigDir()
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(user, "nearside"), 0o700))
	write(t, filepath.Join(user, "nearside", "config.json5"), "{}")
	f("", filepath.Join(user, "nearside", "config.json5"), "")
	write(t, "config.json5", "{}")
	f("", "config.json5", "")
	env["NEARSIDE_CONFIG"] = "env.json5"
	f("", "env.json5", "")
	f("flag.json5", "flag.json5", "")
	f("none.json5", "", "--config none.json5: no such file")
	env["NEARSIDE_CONFIG"] = "none.json5"
	f("", "", "$NEARSIDE_CONFIG none.json5: no such file")
}
