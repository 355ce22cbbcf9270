package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite what testdata/mistakes expects")

// testEnv is the whole environment of the tests.
func testEnv(name string) (string, bool) {
	switch name {
	case "SET_KEY":
		return "key-from-env", true
	case "EMPTY_KEY":
		return "", true
	}
	return "", false
}

// TestMistakesHaveAPlace holds, for one mistake a file, every word that is
// said about it. Nothing of the files may be said that is a credential.
func TestMistakesHaveAPlace(t *testing.T) {
	files, err := filepath.Glob("testdata/mistakes/*.json5")
	if err != nil || len(files) == 0 {
		t.Fatalf("no mistakes found (%v)", err)
	}
	for _, file := range files {
		_, problems := Load(file, Options{LookupEnv: testEnv, Home: "/home/someone"})
		got := problems.String() + "\n"
		if problems.String() == "" {
			t.Errorf("%s: nothing was found wrong", file)
			continue
		}
		for _, p := range problems {
			if p.File == "" || p.Line == 0 && !strings.Contains(p.Text, "file") || p.Col == 0 && p.Line != 0 {
				t.Errorf("%s: a problem without a place: %s", file, p)
			}
		}
		if strings.Contains(got, "secret-value") {
			t.Errorf("%s: a credential is shown: %s", file, got)
		}
		golden := strings.TrimSuffix(file, ".json5") + ".want"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}
