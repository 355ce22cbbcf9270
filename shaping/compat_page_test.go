package shaping

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

const compatPage = "../docs/compat.md"

// The page's tables of profiles and lessons are the tables of the code: a reader
// who looks a server up must find what is done for it.
func TestCompatPageListsProfilesAndLessons(t *testing.T) {
	text, err := os.ReadFile(compatPage)
	if err != nil {
		t.Fatal(err)
	}
	profiles := "| kind | flags | known from |\n|---|---|---|\n"
	for _, p := range Profiles() {
		var flags []string
		s, err := New(ofProfile(t, p), ofProfile(t, p).API.Dialect(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range s.Flags() {
			flags = append(flags, "`"+f.Name+": "+f.Value+"`")
		}
		profiles += fmt.Sprintf("| `%s` | %s | %s |\n", p.Name, strings.Join(flags, " "), p.Source)
	}
	lessons := "| lesson | what the backend does not take | whose words |\n|---|---|---|\n"
	for _, l := range Lessons() {
		lessons += fmt.Sprintf("| `%s` | %s | %s |\n", l.Name, l.Why, l.Source)
	}
	got := string(text)
	for name, table := range map[string]string{"profiles": profiles, "lessons": lessons} {
		between := regexp.MustCompile(`(?s)(<!-- ` + name + ` -->\n).*?(<!-- /` + name + ` -->)`)
		if !between.MatchString(got) {
			t.Fatalf("%s has no place for %s", compatPage, name)
		}
		got = between.ReplaceAllStringFunc(got, func(was string) string {
			m := between.FindStringSubmatch(was)
			return m[1] + table + m[2]
		})
	}
	if got == string(text) {
		return
	}
	if !*update {
		t.Fatal("docs/compat.md does not list the profiles and lessons as they are: run this test with -update")
	}
	if err := os.WriteFile(compatPage, []byte(got), 0o644); err != nil {
		t.Fatal(err)
	}
}
