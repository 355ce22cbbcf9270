package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A configuration that is shown to be pasted must load, and a command that is
// shown to be typed must exist with its flags: whoever meets the first error in
// the documentation trusts none of it.
func TestDocumentationSnippetsAreTaken(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^ *```(\\w*)\n(.*?)^ *```")
	configurations, commands := 0, 0
	for _, page := range append(pages, "README.md", "CONTRIBUTING.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks.FindAllStringSubmatch(string(text), -1) {
			switch b[1] {
			case "json5":
				configurations++
				takes(t, page, b[2])
			case "":
				for line := range strings.Lines(b[2]) {
					if name := shownName(line); name != "" {
						commands++
						known(t, page, name, line)
					}
				}
			}
		}
	}
	if configurations < 4 || commands < 15 {
		t.Errorf("only %d configurations and %d commands were found", configurations, commands)
	}
}

func takes(t *testing.T, page, text string) {
	t.Helper()
	// Blocks may leave out the provider that they are about.
	if strings.Contains(text, "local/my-local-model") || strings.Contains(text, "lmstudio/my-local-model") {
		text = strings.Replace(text, "{", `{ models: { providers: { local: { baseUrl: "http://127.0.0.1:8000/v1", models: [{ id: "my-local-model" }] },
			lmstudio: { baseUrl: "http://127.0.0.1:1234/v1", models: [{ id: "my-local-model" }] } } },`, 1)
	}
	path := filepath.Join(t.TempDir(), "config.json5")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := runBinary("check", "--offline", "--config", path); code != 0 {
		t.Errorf("%s: a configuration is refused with %d\n%s\n%s", page, code, text, out)
	}
}

var shownCommand = regexp.MustCompile(`(?:^|\| |<\()(?:nearside|go run \.)(?: ([a-z][a-z-]*))?((?: +\S+)*)`)

// shownName returns the subcommand of a line that runs nearside, "serve" where it
// has none; empty for other lines.
func shownName(line string) string {
	m := shownCommand.FindStringSubmatch(strings.TrimSpace(line))
	switch {
	case m == nil:
		return ""
	case m[1] == "":
		return "serve"
	}
	return m[1]
}

func known(t *testing.T, page, name, line string) {
	t.Helper()
	out, code := runBinary(name, "--help")
	// Of a command with commands below it, the one that is shown is meant.
	if words := strings.Fields(line[strings.Index(line, name)+len(name):]); len(words) > 0 && strings.Contains(out, "\nCommands:") {
		name += " " + words[0]
		out, code = runBinary(append(strings.Fields(name), "--help")...)
	}
	if code != 0 {
		t.Errorf("%s: %q: there is no command %s", page, line, name)
		return
	}
	line, _, _ = strings.Cut(line, "#")
	line, _, _ = strings.Cut(line, "|")
	for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(line, -1) {
		if !strings.Contains(out, flag) {
			t.Errorf("%s: %q: %s has no flag %s", page, line, name, flag)
		}
	}
}

// A page that the README does not lead to is read by nobody.
func TestReadmeLeadsToEveryPage(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	for _, page := range pages {
		if !strings.Contains(string(readme), "("+page+")") {
			t.Errorf("the README does not link %s", page)
		}
	}
}

// The commands of the page on keys do what it says, one after the other.
func TestTheKeysPageIsRun(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/keys.md")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config.json5")
	if err := os.WriteFile(config, []byte(`{proxy: {dataDir: "data", discovery: {enabled: false}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, b := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
		if b[1] != "" {
			continue
		}
		for line := range strings.Lines(b[2]) {
			words := strings.Fields(line)
			if words[1] == "serve" || ran > 0 && strings.Contains(line, "add laptop") {
				continue // TestOtherMachinesNeedKeys; it is there already
			}
			if out, code := runBinary(append(words[1:], "--config", config)...); code != 0 {
				t.Errorf("%s: %d\n%s", line, code, out)
			}
			ran++
		}
	}
	if ran != 5 {
		t.Errorf("%d commands were run", ran)
	}
}
