package command

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"nearside/proxy/config"
	"nearside/upstream/sim"
)

// Whoever announces itself in a network may be anybody: nobody's proxy gets into a
// configuration without a person's word, and with it, it comes with its key.
func TestInitTakesNoNeighbourByItself(t *testing.T) {
	_, url := simAt(t, sim.Options{Models: []string{"m"}, Key: "sk-right"})
	c := &Init{LAN: true, Timeout: time.Minute, browse: func(context.Context, *config.Config, time.Duration) ([]neighbour, error) {
		return []neighbour{{Name: "GPU box\x1b[2J", URL: url}}, nil
	}}
	lookup := func(name string) (string, bool) { return "sk-right", name == "GPU_KEY" }
	look := func(p *prompts) (all []*candidate, said string) {
		t.Helper()
		var errs strings.Builder
		env := &Env{Stderr: &errs, Lookup: lookup}
		p.ctx, p.out = context.Background(), &errs
		all, err := c.neighbours(context.Background(), env, p, map[string]bool{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return all, errs.String()
	}
	all, said := look(&prompts{})
	if len(all) != 0 || !strings.Contains(said, "nearside init --base-url "+url+" --id gpu-box") || strings.Contains(said, "\x1b") {
		t.Errorf("it takes %d and says\n%s", len(all), said)
	}
	if all, said = look(&prompts{asks: true, in: strings.NewReader("\n")}); len(all) != 0 {
		t.Errorf("it takes one for an empty line, and says\n%s", said)
	}
	if all, said = look(&prompts{asks: true, in: strings.NewReader("y\n\n")}); len(all) != 0 || !strings.Contains(said, "it asks for a key") {
		t.Errorf("it takes %d without a key, and says\n%s", len(all), said)
	}
	if all, said = look(&prompts{asks: true, in: strings.NewReader("y\nGPU_KEY\nn\n")}); len(all) != 1 || all[0].base != url || all[0].key != "${GPU_KEY}" || !strings.HasPrefix(all[0].id, "gpu-box") {
		t.Errorf("it takes %d, and says\n%s", len(all), said)
	}
	c.browse = func(context.Context, *config.Config, time.Duration) ([]neighbour, error) {
		return nil, errors.New("no network")
	}
	if _, err := c.neighbours(context.Background(), &Env{Stderr: &strings.Builder{}}, &prompts{}, nil, nil); err == nil {
		t.Error("a network that cannot be asked is not told")
	}
}
