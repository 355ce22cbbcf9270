package command

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"nearside/catalog"
	"nearside/proxy"
	"nearside/proxy/config"
	"nearside/proxy/config/json5"
)

// Connect prints a client's settings for this proxy.
type Connect struct {
	ConfigFlag
	Client  string `arg:"" optional:"" help:"Which client: codex, claude, opencode, sdk-node, … Without it they are listed."`
	URL     string `name:"url" placeholder:"URL" help:"Address by which the client reaches the proxy, such as https://gpubox.lan:4141. Without it: where the configuration listens, from this machine."`
	Model   string `placeholder:"NAME" help:"Model that the client is to ask for. Without it: default."`
	KeyEnv  string `placeholder:"NAME" help:"Environment variable that holds the client's key. Without it: NEARSIDE_API_KEY where the proxy asks for keys, and otherwise none."`
	CA      string `name:"ca" placeholder:"FILE" help:"Authority that the proxy's certificate is of, for a client that must be told. Without it: ca.pem beside the certificate."`
	Write   bool   `help:"Write the settings into the client's own file, beside what is there; a copy of the file as it was is kept."`
	Offline bool   `help:"Ask no server which models it has: only what the configuration says."`
}

// Help teaches what connect prints.
func (Connect) Help() string {
	return `Prints the settings that point a client at this proxy, as the client reads them: its
configuration file, or a first program with its SDK, with the address, the name of the
variable that holds the key, and the models with their context windows. They go to standard
output; where they belong and what to do then is said on standard error.

	nearside connect
	nearside connect codex > ~/.codex/config.toml
	nearside connect claude --write
	nearside connect opencode --url https://gpubox.lan:4141 --key-env NEARSIDE_API_KEY
	nearside connect sdk-node --model local/my-local-model > hello.mjs

Exit codes: 0; 1 it could not be written; 2 bad flags or configuration.`
}

// defaultKeyEnv is the variable that clients have their key in.
const defaultKeyEnv = "NEARSIDE_API_KEY"

// noKey is what clients that insist on a key send where none is asked for.
const noKey = "none"

// connectModelsMax bounds the models that a client's file lists: a hosted
// catalogue has hundreds, and nobody chooses from so many.
const connectModelsMax = 40

// connection is what a client must know of the proxy.
type connection struct {
	base   string // without /v1
	ca     string // a file that the client must trust; empty for none
	keyEnv string // empty where no key is asked for
	model  connectModel
	models []connectModel // the first is model
}

// connectModel is one name that a client may ask for.
type connectModel struct {
	name      string
	ref       string // of the first model that it means
	title     string
	window    int // 0 when nobody says
	maxTokens int
	image     bool
	reasoning bool
}

// Run prints or writes.
func (c *Connect) Run(env *Env) error {
	if c.Client == "" {
		c.list(env.Stdout)
		return nil
	}
	at := clientNamed(c.Client)
	if at == nil {
		best, far := "", 3
		for i := range connectClients {
			if d := distance(c.Client, connectClients[i].name); d < far {
				best, far = connectClients[i].name, d
			}
		}
		hint := "nearside connect lists them; env and curl help with those that it does not know"
		if best != "" {
			hint = fmt.Sprintf("did you mean %q?", best)
		}
		return usageError{fmt.Errorf("no client called %q is known (%s)", c.Client, hint)}
	}
	to, err := c.connection(env)
	if err != nil {
		return err
	}
	text, err := at.settings(to)
	if err != nil {
		return err
	}
	if c.Write {
		return c.write(env, at, to, text)
	}
	if _, err := io.WriteString(env.Stdout, text); err != nil {
		return err
	}
	if file := at.place(env); file != "" {
		fmt.Fprintf(env.Stderr, "\nBelongs into %s.\n", file)
	}
	c.tell(env, at, to)
	return nil
}

// tell says what remains to be done.
func (c *Connect) tell(env *Env, at *connectClient, to *connection) {
	switch {
	case at.reads != "" && to.keyEnv == "":
		fmt.Fprintf(env.Stderr, "It asks for a key, and any will do: export %s=%s\n", at.reads, noKey)
	case at.reads != "" && to.keyEnv != at.reads:
		fmt.Fprintf(env.Stderr, "The key: export %s=\"$%s\"\n", at.reads, to.keyEnv)
	case to.keyEnv != "" && !at.stores:
		fmt.Fprintf(env.Stderr, "The key: export %s=… (nearside never writes a key into a client's file).\n", to.keyEnv)
	}
	if to.ca != "" && at.caEnv != "" {
		fmt.Fprintf(env.Stderr, "The certificate: export %s=%s\n", at.caEnv, to.ca)
	}
	if at.then != nil {
		fmt.Fprintln(env.Stderr, "Then: "+at.then(to))
	}
}

// list names the clients.
func (c *Connect) list(w io.Writer) {
	rows := make([][]string, len(connectClients))
	for i := range connectClients {
		rows[i] = []string{connectClients[i].name, connectClients[i].what}
	}
	table(w, "", rows)
	fmt.Fprintln(w, "\nnearside connect NAME prints the settings.")
}

// connection gathers what clients must know.
func (c *Connect) connection(env *Env) (*connection, error) {
	file, _, err := env.load(c.Config)
	if err != nil {
		return nil, err
	}
	ctx, stop := env.context()
	defer stop()
	comp := env.composer(ctx, file, c.Offline)
	defer comp.close()
	snap, err := comp.snapshot()
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, errStopped
	}
	to := &connection{keyEnv: c.KeyEnv, ca: c.CA}
	if to.base, err = c.address(&file.Proxy, to); err != nil {
		return nil, err
	}
	switch {
	case to.keyEnv == "" && asksForKeys(file, snap):
		to.keyEnv = defaultKeyEnv
	case to.keyEnv != "" && !environmentName.MatchString(to.keyEnv):
		return nil, usageError{fmt.Errorf("--key-env: %q is not the name of a variable; the key itself stays in the environment", to.keyEnv)}
	}
	if to.ca != "" {
		if to.ca, err = filepath.Abs(to.ca); err != nil {
			return nil, err
		}
	}
	return to, c.choose(snap, to)
}

// asksForKeys says whether clients need one.
func asksForKeys(file *config.Config, snap *proxy.Snapshot) bool {
	wide, err := wideListen(file.Proxy.Listen)
	return snap.Config.Keys != nil || err == nil && wide
}

// address returns where the client reaches the proxy, and finds what it must
// trust there.
func (c *Connect) address(cfg *proxy.Config, to *connection) (string, error) {
	if c.URL != "" {
		base, err := gatewayURL(c.URL)
		if err == nil && strings.HasPrefix(base, "https:") && cfg.TLSCert != "" {
			c.trust(cfg, to)
		}
		return base, err
	}
	base, _, err := listensAt(cfg)
	if err != nil || cfg.TLSCert == "" {
		return base, err
	}
	cert := c.trust(cfg, to)
	u, err := url.Parse(base)
	if err != nil || cert == nil || cert.VerifyHostname(u.Hostname()) == nil {
		return base, err
	}
	// The certificate is not for the address: clients use a name that it is for.
	for _, name := range cert.DNSNames {
		if !strings.Contains(name, "*") {
			u.Host = net.JoinHostPort(name, u.Port())
			return u.String(), nil
		}
	}
	return base, nil
}

// trust reads the proxy's certificate and names the authority that a client does
// not know by itself.
func (c *Connect) trust(cfg *proxy.Config, to *connection) *x509.Certificate {
	text, err := os.ReadFile(cfg.TLSCert)
	if err != nil {
		return nil
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	beside := filepath.Join(filepath.Dir(cfg.TLSCert), "ca.pem")
	switch _, err := os.Stat(beside); {
	case to.ca != "":
	case err == nil:
		to.ca = beside
	case cert.CheckSignatureFrom(cert) == nil || cert.Issuer.String() == cert.Subject.String():
		to.ca = cfg.TLSCert
	}
	return cert
}

// choose lists the models, the one that is asked for first.
func (c *Connect) choose(snap *proxy.Snapshot, to *connection) error {
	asked := c.Model
	if asked == "" {
		asked = catalog.DefaultName
	}
	describe := func(name string) (connectModel, bool) {
		res, err := snap.Catalog.Resolve(name, catalog.ResolveOptions{Ready: snap.Ready})
		if err != nil {
			return connectModel{}, false
		}
		for _, m := range res.Models {
			if m.Unavailable == "" && m.Provider.Unavailable == "" {
				d := connectModel{name: name, ref: m.Ref(), title: m.Name, window: m.Window().Effective, maxTokens: m.MaxTokens, reasoning: m.Reasoning}
				if name != m.Ref() {
					d.title = name + " (" + m.Ref() + ")"
				}
				for _, in := range m.Input {
					d.image = d.image || in == catalog.InputImage
				}
				return d, true
			}
		}
		return connectModel{}, false
	}
	one, ok := describe(asked)
	switch {
	case !ok && c.Model != "":
		_, err := snap.Catalog.Resolve(asked, catalog.ResolveOptions{})
		if err == nil {
			err = errors.New("it cannot be asked now; see nearside models")
		}
		return usageError{fmt.Errorf("--model %s: %w", asked, err)}
	}
	if !ok {
		one = connectModel{name: asked, ref: asked, title: asked}
	}
	to.model, to.models = one, []connectModel{one}
	for _, e := range snap.Catalog.List() {
		if e.ID == asked || len(to.models) == connectModelsMax {
			continue
		}
		// Hosted catalogues are left to their chains and aliases.
		if e.Kind == "model" && e.Model.Provider.Source == catalog.FromBuiltin {
			continue
		}
		if d, ok := describe(e.ID); ok {
			to.models = append(to.models, d)
		}
	}
	return nil
}

// place is the client's own file here; empty where it has none.
func (at *connectClient) place(env *Env) string {
	if at.file == nil {
		return ""
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "~"
	}
	return at.file(func(name, otherwise string) string {
		if dir := env.Getenv(name); dir != "" {
			return dir
		}
		return filepath.Join(home, filepath.FromSlash(otherwise))
	})
}

// write puts the settings into the client's file.
func (c *Connect) write(env *Env, at *connectClient, to *connection, text string) error {
	file := at.place(env)
	if file == "" {
		return usageError{fmt.Errorf("%s has no file of its own that could be written: without --write the settings are printed", at.name)}
	}
	old, err := os.ReadFile(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return exitError{ExitFailed, err}
		}
		if err := config.WriteFile(file, []byte(text), 0o600); err != nil {
			return exitError{ExitFailed, err}
		}
		fmt.Fprintf(env.Stdout, "%s is written\n", file)
		c.tell(env, at, to)
		return nil
	case err != nil:
		return exitError{ExitFailed, err}
	case !at.merges:
		return usageError{fmt.Errorf("%s exists, and its format is not one that can be added to safely: without --write the settings are printed, to be put into it", file)}
	}
	settings, errs := json5.Parse("", []byte(text), json5.Limits{})
	if len(errs) > 0 {
		return fmt.Errorf("BUG: connect %s: %w", at.name, errs[0])
	}
	if len(strings.TrimSpace(string(old))) == 0 {
		old = []byte("{}\n")
	}
	merged, err := json5.Merge(old, nil, settings)
	if err != nil {
		return usageError{fmt.Errorf("%s: %w", file, err)}
	}
	if string(merged) == string(old) {
		fmt.Fprintf(env.Stdout, "%s says so already\n", file)
		return nil
	}
	backup, err := keep(file)
	if err != nil {
		return exitError{ExitFailed, fmt.Errorf("keep %s as it was: %w", file, err)}
	}
	if err := config.WriteFile(file, merged, 0o600); err != nil {
		return exitError{ExitFailed, err}
	}
	fmt.Fprintf(env.Stdout, "%s has the settings; as it was: %s\n", file, backup)
	c.tell(env, at, to)
	return nil
}

// backupsMax bounds the copies that one file may have.
const backupsMax = 1000

// keep copies a file beside itself, under a name that was free.
func keep(file string) (backup string, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for n := range backupsMax {
		backup = file + ".before-nearside"
		if n > 0 {
			backup += fmt.Sprintf("-%d", n+1)
		}
		f, err := os.OpenFile(backup, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = f.Write(content)
		return backup, errors.Join(err, f.Close())
	}
	return "", fmt.Errorf("%d copies are there already", backupsMax)
}
