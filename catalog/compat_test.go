package catalog

import "testing"

// A flag is that of the last layer that says it, and its source is told.
func TestLayersOfFlags(t *testing.T) {
	yes, no := true, false
	low := Compat{SupportsTools: &yes, MaxTokensField: "max_tokens", Own: Own{ToolText: "bracketed", MaxTools: 4}}
	high := Compat{SupportsTools: &no, Own: Own{ToolText: "off"}}
	c, from := Lay(Layer{&low, "low"}, Layer{nil, "nothing"}, Layer{&high, "high"})
	if *c.SupportsTools || c.MaxTokensField != "max_tokens" || c.ToolText != "off" || c.MaxTools != 4 {
		t.Errorf("laid: %+v", c)
	}
	for flag, want := range map[string]string{"supportsTools": "high", "maxTokensField": "low", "toolText": "high", "maxTools": "low", "lean": ""} {
		if from[flag] != want {
			t.Errorf("%s is of %q, want %q", flag, from[flag], want)
		}
	}
	var said []string
	c.Each(func(name string, value any) { said = append(said, name) })
	if len(said) != 4 || said[0] != "supportsTools" || said[3] != "toolText" {
		t.Errorf("said: %v", said)
	}
}
