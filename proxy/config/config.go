// Package config owns config.json5: it reads the file with its includes,
// replaces variables and secrets, checks everything against one schema with
// places and suggestions, and composes the other packages' settings. It also
// finds the file and watches it. It decides nothing at run time and keeps no
// state.
package config

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"nearside/catalog"
	"nearside/proxy"
	"nearside/proxy/access"
	"nearside/proxy/config/json5"
	"nearside/upstream"
)

// Options say what Load reads from. The zero Options read the process's
// environment and the file system.
type Options struct {
	// LookupEnv stands for os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Environ stands for os.Environ: variables whose names are not known before.
	// Where LookupEnv alone is set there are none.
	Environ func() []string
	// ReadFile stands for reading a file of at most limit bytes. When it is
	// set, includes are not held against the real path of the file, which only
	// the file system knows.
	ReadFile func(path string, limit int) ([]byte, error)
	// Home is the user's home folder, for ~ and the data folder.
	Home string

	// instead holds what files are to be read as, whatever is in them.
	instead map[string][]byte
}

// Config is a configuration that was read without an error. It is immutable.
type Config struct {
	Path  string   // as given to Load; empty for the built-in defaults
	Files []string // to watch: the file, what it includes, files with secrets, certificates and keys

	// Providers are those of the file and, with mode merge, the built-in hosted
	// ones. Backends holds how to reach those that can be reached.
	Providers []*catalog.Provider
	Backends  []upstream.Config
	Aliases   []catalog.Alias
	Chains    []catalog.Chain

	Proxy     proxy.Config
	Keys      []access.Key // of proxy.keys; Proxy.Keys is their table
	Log       Log
	Discovery Discovery
	MDNS      MDNS
	Simulate  bool
	// Certificate is that of proxy.tls; nil to serve plain HTTP.
	Certificate *tls.Certificate
	// ClientCA are the authorities of proxy.tls.clientCA; nil to ask clients for no
	// certificate.
	ClientCA *x509.CertPool
	// Configured says that the file itself has a provider, so that the
	// simulated backend has no place.
	Configured bool

	// Later lists what is accepted and does not have an effect yet, Partly what
	// has one on some requests only, Ignored what only OpenClaw reads.
	Later, Partly, Ignored []Note
	Warnings               Problems
	// Shown is all of it as JSON, as it is written and without a credential.
	Shown []byte
	// Digest tells readings of different contents apart.
	Digest string

	own       map[string]node           // proxy.providers, checked
	compats   map[string]catalog.Compat // their compat
	ownModels map[string]catalog.Compat // proxy.models.<ref>.compat
	// The user-written rules: of all providers, of one, of one model.
	rulesOfAll            []catalog.UserRule
	rulesOf, rulesOfModel map[string][]catalog.UserRule
	boundsOf              map[string]map[string]catalog.Bounds // proxy.models, by provider

	params   []catalog.Param            // agents.defaults.params
	paramsOf map[string][]catalog.Param // those and agents.defaults.models.<ref>.params, of models that may be found
	sums     map[string][sha256.Size]byte
}

// MDNS says whether the proxy announces itself in its network, and as what.
type MDNS struct {
	Announce  bool
	Name      string // empty for the machine's
	Interface string // of the network; empty for the system's choice
}

// Log says what is logged and how.
type Log struct {
	Level  string // trace, debug, info, warn, error, off
	Format string // auto, json, console
	// BufferBytes is how much of it may wait to be written.
	BufferBytes int
}

// Discovery says where local servers are looked for.
type Discovery struct {
	Enabled        bool
	Addresses      []DiscoveryAddress
	Every, Timeout time.Duration
}

// DiscoveryAddress is one place to look at. Kind is empty when its answers are
// to tell.
type DiscoveryAddress struct {
	URL  string // scheme and host, without a path
	Kind catalog.Kind
}

// loader is one reading.
type loader struct {
	opt       Options
	path      string
	cfg       *Config
	problems  Problems
	root      node
	vars      map[string]string // env.vars of the file
	files     []string
	contents  [][]byte
	mounts    []mount          // the files that could be read, and where each is included
	byName    *catalog.Catalog // of the providers alone, made when first asked
	aliasAt   []json5.Pos      // of cfg.Aliases
	secrets   map[*json5.Value]resolved
	ruleLists map[*json5.Value][]catalog.UserRule // that were read
	known     map[string]*catalog.BuiltinProvider // built-in providers by id, also with mode replace
}

// Load reads the configuration at path and everything it names. All problems
// are returned at once, in the order of the files. When Problems has Errors,
// the Config holds nothing but Path and Files, so that a watcher still knows
// what to look at; it is never nil. An empty path loads the built-in defaults.
func Load(path string, opt Options) (*Config, Problems) {
	opt.environ()
	if opt.LookupEnv == nil {
		opt.LookupEnv = os.LookupEnv
	}
	if opt.Home == "" {
		if home, err := os.UserHomeDir(); err == nil {
			opt.Home = home
		}
	}
	l := &loader{opt: opt, path: path, cfg: &Config{Path: path}, vars: map[string]string{}, secrets: map[*json5.Value]resolved{}}
	tree := &json5.Value{Kind: json5.Object, Pos: json5.Pos{File: path, Line: 1, Col: 1}}
	if path != "" {
		tree = l.read()
	}
	if tree != nil {
		l.root = node{v: tree}
		l.cfg.Shown = l.shown(tree, schema())
		l.variables()
		l.check(tree, schema(), "")
		l.compose()
	}
	l.problems.sorted(l.files)
	if len(l.problems.Errors()) > 0 {
		return &Config{Path: path, Files: l.files, sums: l.sums()}, l.problems
	}
	l.cfg.Files, l.cfg.sums = l.files, l.sums()
	l.cfg.Warnings = l.problems
	l.cfg.Digest = l.digest()
	return l.cfg, l.problems
}

// Stale says whether a file holds something else now than when it was read. Of
// files that could not be read it does not know.
func (c *Config) Stale() bool {
	now := contents(c.Files)
	for file, sum := range c.sums {
		if now[file] != sum {
			return true
		}
	}
	return false
}

// sums are the fingerprints of what was read.
func (l *loader) sums() map[string][sha256.Size]byte {
	all := make(map[string][sha256.Size]byte, len(l.files))
	for i, content := range l.contents {
		if content != nil {
			all[l.files[i]] = sha256.Sum256(content)
		}
	}
	return all
}

// digest is taken of the contents as they were read.
func (l *loader) digest() string {
	sum := sha256.New()
	for i, content := range l.contents {
		one := sha256.Sum256(content)
		sum.Write([]byte(l.files[i]))
		sum.Write(one[:])
	}
	return hex.EncodeToString(sum.Sum(nil))[:16]
}

// folder returns the folder that relative paths of the file start at.
func (l *loader) folder() string { return filepath.Dir(l.path) }

// file makes a path of the configuration absolute or relative to the working
// folder: ~ is the home folder, anything else starts at the configuration.
func (l *loader) file(path string) string {
	if path == "~" || len(path) > 1 && path[0] == '~' && os.IsPathSeparator(path[1]) {
		return filepath.Join(l.opt.Home, path[1:])
	}
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(l.folder(), path)
}

// dataDir returns the data folder that holds when the file names none.
func (l *loader) dataDir() string {
	if dir, ok := l.opt.LookupEnv("NEARSIDE_DATA"); ok && dir != "" {
		return dir
	}
	if dir, ok := l.opt.LookupEnv("XDG_STATE_HOME"); ok && filepath.IsAbs(dir) {
		return filepath.Join(dir, "nearside")
	}
	switch runtime.GOOS {
	case "windows":
		if dir, ok := l.opt.LookupEnv("LOCALAPPDATA"); ok && dir != "" {
			return filepath.Join(dir, "nearside")
		}
	case "darwin":
		return filepath.Join(l.opt.Home, "Library", "Application Support", "nearside")
	}
	return filepath.Join(l.opt.Home, ".local", "state", "nearside")
}
