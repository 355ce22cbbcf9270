package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrNone is what Find returns when no configuration exists anywhere: the
// built-in defaults hold.
var ErrNone = errors.New("no configuration file")

// fileName is the configuration's name where no other is given.
const fileName = "config.json5"

// Find returns the configuration to load: the one named by the flag, else by
// $NEARSIDE_CONFIG, else ./config.json5, else nearside/config.json5 in the
// user's configuration folder. A named file must exist; ErrNone says that there
// is none in the usual places.
func Find(flag string, env func(string) string) (path string, err error) {
	for _, named := range []struct{ path, by string }{{flag, "--config"}, {env("NEARSIDE_CONFIG"), "$NEARSIDE_CONFIG"}} {
		if named.path == "" {
			continue
		}
		if _, err := os.Stat(named.path); err != nil {
			return "", fmt.Errorf("%s %s: %s", named.by, named.path, plain(err))
		}
		return named.path, nil
	}
	places := []string{fileName}
	if dir, err := os.UserConfigDir(); err == nil {
		places = append(places, filepath.Join(dir, "nearside", fileName))
	}
	for _, path := range places {
		_, err := os.Stat(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%s: %s", path, plain(err))
		}
	}
	return "", fmt.Errorf("%w (looked for %s)", ErrNone, strings.Join(places, " and "))
}
