package command

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"nearside/proxy"
	"nearside/proxy/access"
	"nearside/proxy/config"
)

// keysPath is the file of keys. It has a folder of its own in the data folder,
// which is watched: where databases lie something changes all the time.
func keysPath(cfg *config.Config) string {
	return filepath.Join(cfg.Proxy.DataDir, "keys", "keys.json")
}

// clientKeys is the table of all keys that clients may present: those of the file
// of keys beside those of the configuration, which count before them. Where others than this machine can
// connect (wide) nobody is let in without one, whatever becomes of the
// configuration.
func clientKeys(cfg *config.Config, kept *access.File, wide bool, now time.Time) *access.Table {
	if cfg.Proxy.Access.Auth == proxy.AuthNone && !wide {
		return nil
	}
	keys := cfg.Keys
	required := wide || cfg.Proxy.Access.Auth == proxy.AuthKeys
	if kept != nil {
		keys = append(keys[:len(keys):len(keys)], kept.List(now)...)
		required = required || len(kept.Keys) > 0
	}
	if len(keys) == 0 && !required {
		return nil
	}
	return access.NewTable(keys, required)
}

// wideListen says whether others than this machine can connect to an address to
// listen on.
func wideListen(listen string) (bool, error) {
	addr, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return false, err
	}
	return wideAddr(addr), nil
}

func wideAddr(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return !ok || !tcp.IP.IsLoopback()
}

// keys reads the keys that there are, and says whether others than this machine can
// connect; an error where they could and everybody would be let in.
func (c *Serve) keys(w io.Writer, cfg *config.Config, path string) (kept *access.File, wide bool, err error) {
	if wide, err = wideListen(cfg.Proxy.Listen); err != nil {
		return nil, false, fmt.Errorf("listen on %s: %w (choose another address with --listen or proxy.listen)", cfg.Proxy.Listen, err)
	}
	if at := cfg.Proxy.Admin.Listen; at != "" && !wide {
		if wide, err = wideListen(at); err != nil {
			return nil, false, fmt.Errorf("listen on %s: %w (proxy.admin.listen)", at, err)
		}
	}
	if kept, err = access.ReadFile(path); err != nil {
		return nil, false, fmt.Errorf("%w (nothing was started: with a file of keys that is not understood nobody can be told from anybody)", err)
	}
	kept, err = c.guard(w, cfg, path, kept, wide)
	return kept, wide, err
}

// guard refuses to serve others than this machine while everybody would be let in,
// or makes the first key when it is told to.
func (c *Serve) guard(w io.Writer, cfg *config.Config, path string, kept *access.File, wide bool) (*access.File, error) {
	if !wide {
		return kept, nil
	}
	listen := cfg.Proxy.Listen
	if w, err := wideListen(listen); err == nil && !w { // else it was said before
		listen = cfg.Proxy.Admin.Listen
	}
	if cfg.Proxy.Access.Auth == proxy.AuthNone {
		return nil, usageError{fmt.Errorf("other machines can connect to %s, and proxy.access.auth is none: everybody there could use your models and your providers' credit. Set it to auto and make a key (nearside keys add NAME), or listen on 127.0.0.1", listen)}
	}
	if len(kept.Keys) > 0 || len(cfg.Keys) > 0 {
		return kept, nil
	}
	if !c.FirstKey {
		return nil, usageError{fmt.Errorf("other machines can connect to %s, and there are no keys: everybody there could use your models and your providers' credit. Make a key first (nearside keys add NAME --operator), have one made now (--first-key), or listen on 127.0.0.1", listen)}
	}
	var secret string
	err := access.Update(path, func(f *access.File) (err error) {
		if len(f.Keys) == 0 { // another may have been quicker
			secret, err = f.Add(access.Kept{Label: "first", Operator: true}, time.Now())
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the first key cannot be kept: %w (give nearside a folder that it can write to: proxy.dataDir or $NEARSIDE_DATA)", err)
	}
	if secret != "" {
		fmt.Fprintf(w, "the first key, an operator's, shown this once: %s\n", secret)
	}
	return access.ReadFile(path)
}

// keepKeys reads the file of keys again whenever it changes, until ctx ends. A bad
// one keeps the keys that there are.
func (c *composer) keepKeys(ctx context.Context, log zerolog.Logger, path string, apply func()) {
	read := func() {
		kept, err := access.ReadFile(path)
		c.mu.Lock()
		was := c.kept
		c.mu.Unlock()
		if err == nil && len(kept.Keys) == 0 && len(was.Keys) > 0 {
			err = fmt.Errorf("%s has none any more: to ask for none, stop nearside first", path)
		}
		if err != nil {
			log.Error().Err(err).Msg("the keys that were read before stay in force")
			return
		}
		if kept.Same(was) {
			return
		}
		c.mu.Lock()
		c.kept = kept
		c.mu.Unlock()
		apply()
		log.Info().Str("file", path).Int("valid", len(kept.List(time.Now()))).Int("keys", len(kept.Keys)).Msg("keys reloaded")
	}
	_ = os.MkdirAll(filepath.Dir(path), 0o700) // else a first key is found later, by looking now and then
	files := func() []string { return []string{path} }
	if err := config.Watch(ctx, files, watchDebounce, func() bool { return false }, read, read); err != nil && ctx.Err() == nil {
		log.Warn().Err(err).Msg("changes of the keys are noticed late")
	}
}

// authorize presents a key to a running proxy: that of a flag, or the
// environment's.
func (e *Env) authorize(req *http.Request, flag string) {
	if flag = strings.TrimSpace(flag); flag == "" && e != nil && e.Getenv != nil {
		flag = strings.TrimSpace(e.Getenv("NEARSIDE_KEY"))
	}
	if flag != "" {
		req.Header.Set("Authorization", "Bearer "+flag)
	}
}

// usedFile is what keys have used, in the data folder.
const usedFile = "keys-used.json"

// usedEvery is how often what keys have used is written, at the most: so much of it
// a crash can forget.
const usedEvery = time.Second

// keepAccounts returns what keys have used as it was kept, and keep, which goes on
// keeping it until ctx ends.
func keepAccounts(cfg *config.Config, log zerolog.Logger) (accounts *access.Accounts, keep func(context.Context), err error) {
	path := filepath.Join(cfg.Proxy.DataDir, usedFile)
	used, err := access.ReadUsed(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%w (budgets are reckoned from it: move it away to begin anew)", err)
	}
	accounts = access.NewAccounts(nil)
	accounts.Load(used)
	var told time.Time
	return accounts, func(ctx context.Context) {
		accounts.Keep(ctx, path, usedEvery, func(err error) {
			if now := time.Now(); now.Sub(told) > time.Minute {
				told = now
				log.Error().Err(err).Msg("budgets would not outlive a restart")
			}
		})
	}, nil
}

// accessText says who may ask, for the one who starts the proxy.
func accessText(keys *access.Table) string {
	switch n := len(keys.Grants()); {
	case !keys.Required():
		return "nobody is asked for a key, since only this machine can connect"
	case n == 0:
		return "none is valid: nobody is let in (nearside keys add NAME)"
	default:
		return count(n, "key") + ", and every client needs one (nearside keys list)"
	}
}
