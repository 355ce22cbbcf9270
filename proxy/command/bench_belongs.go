package command

import "fmt"

// belongs says which flag was given to a run that would pass over it: who asked for a
// limit, a file or a load is not to believe that there was one.
func (c *Bench) belongs() error {
	type flag struct {
		name  string
		given bool
	}
	if c.FailOn != "" {
		return fmt.Errorf("--fail-on is for nearside bench compare before.json after.json")
	}
	if c.Overhead {
		return nil
	}
	switch {
	case c.Rounds < 1:
		return fmt.Errorf("--rounds: at least 1")
	case c.Timeout <= 0:
		return fmt.Errorf("--timeout: above 0")
	case !c.Card:
		return nil
	}
	for _, f := range []flag{{"--concurrency", len(c.At) > 0}, {"--rate", len(c.Rate) > 0}, {"--ramp", c.Ramp != ""}, {"--saturate", c.Saturate}, {"--goal", c.Goal != ""},
		{"--requests", c.Requests != 0}, {"--for", c.For != 0}, {"--csv", c.CSV != ""}, {"--markdown", c.Markdown != ""}, {"--html", c.HTML != ""}} {
		if f.given {
			return fmt.Errorf("%s does nothing with --card, which measures no times", f.name)
		}
	}
	return nil
}
