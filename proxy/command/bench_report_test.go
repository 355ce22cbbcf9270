package command

import (
	"slices"
	"testing"
)

// A report is given away, and so are the words of the command line in it.
func TestShownArgsHaveNoCredentials(t *testing.T) {
	got := shownArgs([]string{"bench", "http://user:hunter2@box/v1#m", "--key", "sk-1", "--header=Authorization: Bearer sk-2", "--api-key=sk-3", "--rounds", "3", "--token", "--json", "run.json"})
	want := []string{"bench", "http://%2A%2A%2A@box/v1#m", "--key", "***", "--header=***", "--api-key=***", "--rounds", "3", "--token", "--json", "run.json"}
	if !slices.Equal(got, want) {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
}
