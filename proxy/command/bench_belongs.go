package command

import "fmt"

// belongs says which flag was given to a run that would pass over it: who asked for a
// limit, a file or a load is not to believe that there was one.
func (c *Bench) belongs() error {
	type flag struct {
		name  string
		given bool
	}
	what := ""
	switch {
	case c.FailOn != "":
		return fmt.Errorf("--fail-on is for nearside bench compare before.json after.json")
	case c.Overhead:
		what = "--overhead, which has tests of its own"
	case c.Rounds < 1:
		return fmt.Errorf("--rounds: at least 1")
	case c.Timeout <= 0:
		return fmt.Errorf("--timeout: above 0")
	case c.Card:
		what = "--card, which measures no times"
	}
	if what != "" {
		for _, f := range []flag{{"--card", c.Card && c.Overhead}, {"--concurrency", len(c.At) > 0}, {"--rate", len(c.Rate) > 0}, {"--ramp", c.Ramp != ""},
			{"--saturate", c.Saturate}, {"--goal", c.Goal != ""}, {"--requests", c.Requests != 0}, {"--for", c.For != 0},
			{"--csv", c.CSV != ""}, {"--markdown", c.Markdown != ""}, {"--html", c.HTML != ""}} {
			if f.given {
				return fmt.Errorf("%s does nothing with %s", f.name, what)
			}
		}
	}
	return nil
}
