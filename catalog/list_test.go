package catalog

import "testing"

func TestListAndLookup(t *testing.T) {
	c := pair()
	seen := map[string]string{}
	for _, e := range c.List() {
		seen[e.ID] = e.Kind
	}
	for id, kind := range map[string]string{"default": "chain", "coder": "chain", "Local": "alias", "lmstudio/small": "model", "openai/gpt-5": "model"} {
		if seen[id] != kind {
			t.Errorf("List has %q as %q, want %q", id, seen[id], kind)
		}
	}
	if seen["gpt-*"] != "" {
		t.Error("List has a pattern")
	}
	if e, ok := c.Lookup("local"); !ok || e.ID != "Local" {
		t.Errorf("Lookup(local) = %v %v", e, ok)
	}
	if e, ok := c.Lookup("small"); !ok || e.ID != "lmstudio/small" {
		t.Errorf("Lookup(small) = %v %v", e, ok)
	}
	if _, ok := c.Lookup("mlx/unlisted"); ok {
		t.Error("Lookup made a model up")
	}
	if e, ok := c.Lookup("OpenAI/gpt-5"); !ok || e.ID != "openai/gpt-5" {
		t.Errorf("Lookup(OpenAI/gpt-5) = %v %v", e, ok)
	}
	if e, ok := c.Lookup("LOCAL"); !ok || e.Model == nil || e.Model.Ref() != "lmstudio/small" {
		t.Errorf("Lookup(LOCAL) = %v %v, want the alias with its model", e, ok)
	}
	for _, name := range []string{"", "/", "shared", "nobody/x", "gpt-*"} {
		if e, ok := c.Lookup(name); ok {
			t.Errorf("Lookup(%q) = %v", name, e)
		}
	}
	if e, ok := New(c.Providers, nil, nil).Lookup("Default"); !ok || e.Kind != "chain" {
		t.Errorf("Lookup(Default) without one = %v %v", e, ok)
	}
	if n := testing.AllocsPerRun(100, func() { c.Lookup("openai/gpt-5") }); n > 1 {
		t.Errorf("Lookup: %v allocations", n)
	}
}
