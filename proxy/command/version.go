package command

import (
	"fmt"
	"runtime"
)

// Version prints the version.
type Version struct {
	JSON bool `help:"As JSON."`
}

// Help teaches what version does.
func (Version) Help() string {
	return `	nearside version
	nearside version --json

Exit codes: 0; 2 bad flags.`
}

// Run prints it.
func (c *Version) Run(env *Env) error {
	if c.JSON {
		return env.json(struct {
			Version string `json:"version"`
			Go      string `json:"go"`
			OS      string `json:"os"`
			Arch    string `json:"arch"`
		}{env.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH})
	}
	_, err := fmt.Fprintf(env.Stdout, "nearside %s (%s %s/%s)\n", env.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
