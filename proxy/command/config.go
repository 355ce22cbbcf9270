package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"nearside/proxy/config"
	"nearside/proxy/config/json5"
)

// ConfigCommand looks at the configuration's settings and changes them.
type ConfigCommand struct {
	Get   ConfigGet   `cmd:"" group:"Commands:" help:"Print what the configuration says at a path."`
	Set   ConfigSet   `cmd:"" group:"Commands:" help:"Write a value at a path; comments and layout stay."`
	Unset ConfigUnset `cmd:"" group:"Commands:" help:"Take away what stands at a path."`
	Path  ConfigPath  `cmd:"" group:"Commands:" help:"Print which file is the configuration."`
}

// Help teaches what a path is.
func (ConfigCommand) Help() string {
	return `Looks at single settings of config.json5 and changes them where they are written:
every comment and the layout stay, and what would not load is refused.

	nearside config get agents.defaults.model
	nearside config set proxy.fallback.targets 2
	nearside config unset proxy.fallback.targets

A path is written with dots or brackets. What has dots of its own, as many models have,
goes into brackets: agents.defaults.models["local/qwen3.5"].alias

Exit codes: 0; 1 nothing is set there; 2 bad flags, or it would not load.`
}

// ConfigGet prints a setting.
type ConfigGet struct {
	ConfigFlag
	Setting string `arg:"" optional:"" name:"path" help:"Setting to print, such as models.providers.local.baseUrl. Without it all of the file."`
	JSON    bool   `help:"As JSON, also a single text."`
	Reveal  bool   `help:"Print credentials as well. Without it they are shown as ***."`
}

// Help teaches what get prints.
func (ConfigGet) Help() string {
	return `Prints what the files say, includes in their places and variables as they are written.
What no file says is not printed, although it has a default: config.json5 of the
distribution names them all.

	nearside config get
	nearside config get agents.defaults.model.primary
	nearside config get 'models.providers.local.models[0]' --json

Exit codes: 0; 1 nothing is set there; 2 bad flags, or the file is not JSON5.`
}

// Run prints.
func (c *ConfigGet) Run(env *Env) error {
	d, err := env.document(c.Config)
	if err != nil {
		return err
	}
	path, err := settingPath(c.Setting, true)
	if err != nil {
		return err
	}
	v, ok := d.Get(path, c.Reveal)
	switch {
	case !ok:
		return exitError{ExitFailed, fmt.Errorf("%s is not set", json5.PathString(path))}
	case c.JSON || v.Kind == json5.Object || v.Kind == json5.Array:
		text := json5.Format(v)
		if c.JSON {
			text = json5.FormatJSON(v)
		}
		fmt.Fprintln(env.Stdout, text)
	case v.Kind == json5.String:
		fmt.Fprintln(env.Stdout, v.Text)
	default:
		fmt.Fprintln(env.Stdout, json5.Format(v))
	}
	return nil
}

// ConfigSet writes a setting.
type ConfigSet struct {
	ConfigFlag
	Setting    string `arg:"" name:"path" help:"Setting to write. Objects on the way are made where they are missing."`
	Value      string `arg:"" help:"Its value: JSON5, or else a text as it stands."`
	StrictJSON bool   `name:"strict-json" aliases:"json" help:"Refuse a value that is not JSON5 instead of taking it for a text."`
	Merge      bool   `xor:"how" help:"Add to what stands there: an object keeps its other members, a list of models the others."`
	Replace    bool   `xor:"how" help:"Let a value take away entries (providers, models, …) that it does not name."`
	DryRun     bool   `help:"Write nothing; show what would change."`
}

// Help teaches how a value is written.
func (ConfigSet) Help() string {
	return `Writes the value into the file in which the setting lives, which may be one that the
configuration includes, and touches no other byte. The result is loaded before it is
written, and refused with all its problems if it would not load. A running proxy takes it
over by itself.

	nearside config set agents.defaults.model.primary lmstudio/qwen3-4b
	nearside config set agents.defaults.models '{"local/my-local-model":{"alias":"fast"}}' --strict-json --merge
	nearside config set 'models.providers.local.apiKey' '${LOCAL_API_KEY}' --dry-run

Exit codes: 0; 1 it could not be written; 2 bad flags, or it would not load.`
}

// Run writes.
func (c *ConfigSet) Run(env *Env) error {
	d, err := env.document(c.Config)
	if err != nil {
		return err
	}
	path, err := settingPath(c.Setting, false)
	if err != nil {
		return err
	}
	value, errs := json5.Parse("", []byte(c.Value), json5.Limits{})
	switch {
	case len(errs) > 0 && c.StrictJSON:
		return usageError{fmt.Errorf("the value is not JSON5: %s (in a shell, put it into single quotes)", errs[0].Text)}
	case len(errs) > 0, !c.StrictJSON && value.Kind != json5.String && value.Kind < json5.Array && d.WantsText(path):
		value = &json5.Value{Kind: json5.String, Text: c.Value}
	}
	if c.Merge {
		err = d.Merge(path, value)
	} else {
		if lost := d.Lost(path, value); len(lost) > 0 && !c.Replace {
			return usageError{fmt.Errorf("this would take away %s: --merge adds to what is there, --replace means it", strings.Join(lost, ", "))}
		}
		err = d.Set(path, value)
	}
	if err != nil {
		return usageError{err}
	}
	return env.change(d, c.DryRun, json5.PathString(path)+" is set")
}

// ConfigUnset takes a setting away.
type ConfigUnset struct {
	ConfigFlag
	Setting string `arg:"" name:"path" help:"Setting to take away."`
	DryRun  bool   `help:"Write nothing; show what would change."`
}

// Help teaches what unset leaves.
func (ConfigUnset) Help() string {
	return `Takes a setting out of the file in which it lives, so that its default holds again. Comments
stay, except those within what is taken away. What would not load without it is refused.

	nearside config unset proxy.fallback.targets
	nearside config unset 'models.providers.local.models[1]' --dry-run

Exit codes: 0; 1 it is not set, or could not be written; 2 bad flags, or it would not load.`
}

// Run takes away.
func (c *ConfigUnset) Run(env *Env) error {
	d, err := env.document(c.Config)
	if err != nil {
		return err
	}
	path, err := settingPath(c.Setting, false)
	if err != nil {
		return err
	}
	if _, ok := d.Get(path, false); !ok {
		return exitError{ExitFailed, fmt.Errorf("%s is not set", json5.PathString(path))}
	}
	if err := d.Unset(path); err != nil {
		return usageError{err}
	}
	return env.change(d, c.DryRun, json5.PathString(path)+" is no longer set")
}

// ConfigPath prints the file.
type ConfigPath struct{ ConfigFlag }

// Help teaches where it is looked for.
func (ConfigPath) Help() string {
	return `Prints which file the other commands read here, and nothing else.

	nearside config path

Exit codes: 0; 1 there is none, so that the built-in defaults hold; 2 bad flags.`
}

// Run prints.
func (c *ConfigPath) Run(env *Env) error {
	path, err := env.find(c.Config)
	switch {
	case err != nil:
		return err
	case path == "":
		return exitError{ExitFailed, errNoConfig}
	}
	fmt.Fprintln(env.Stdout, path)
	return nil
}

var errNoConfig = errors.New("there is no configuration file: nearside init writes one, --config names one")

// document opens the configuration's files as they are written.
func (e *Env) document(flag string) (*config.Document, error) {
	path, err := e.find(flag)
	if err != nil {
		return nil, err
	}
	if path == "" {
		return nil, usageError{errNoConfig}
	}
	d, err := config.OpenDocument(path, e.configOptions())
	var problems config.Problems
	if errors.As(err, &problems) {
		e.problems(problems)
		return nil, usageError{fmt.Errorf("%s has %s", path, count(len(problems), "problem"))}
	}
	if err != nil {
		return nil, usageError{err}
	}
	return d, nil
}

// settingPath reads a path; an empty one is all of the file where that is
// allowed.
func settingPath(text string, all bool) ([]json5.Step, error) {
	if all && strings.TrimSpace(text) == "" {
		return nil, nil
	}
	path, err := json5.ParsePath(text)
	if err != nil {
		return nil, usageError{err}
	}
	return path, nil
}

// change writes a changed configuration when it loads, or shows what it would
// be.
func (e *Env) change(d *config.Document, dry bool, done string) error {
	files := d.Changed()
	if len(files) == 0 {
		fmt.Fprintln(e.Stdout, "nothing changes: it says so already")
		return nil
	}
	if dry {
		for _, file := range files {
			was, now := d.Texts(file)
			if string(was) == string(now) {
				fmt.Fprintf(e.Stdout, "%s: a credential changes, which is not shown\n", file)
				continue
			}
			if _, err := e.Stdout.Write(diff.Diff(file, was, file+" (changed)", now)); err != nil {
				return err
			}
		}
	}
	_, problems := d.Check()
	if n := len(problems.Errors()); n > 0 {
		e.problems(problems.Errors())
		return usageError{fmt.Errorf("it would not load, with %s; nothing was written", count(n, "problem"))}
	}
	if dry {
		fmt.Fprintln(e.Stderr, "this would load; nothing was written (--dry-run)")
		return nil
	}
	for _, w := range problems.Warnings() {
		if slices.Contains(files, w.File) {
			fmt.Fprintln(e.Stderr, w.String())
		}
	}
	if err := d.Write(); err != nil {
		return exitError{ExitFailed, err}
	}
	fmt.Fprintf(e.Stdout, "%s in %s\n", done, strings.Join(files, " and "))
	return nil
}
