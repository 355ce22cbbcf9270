package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"nearside/catalog"
	"nearside/proxy"
	"nearside/proxy/config"
	"nearside/proxy/meter"
	"nearside/shaping"
	"nearside/shaping/wire"
)

// Serve runs the proxy.
type Serve struct {
	Config   string `short:"c" placeholder:"FILE" help:"Configuration file. Without it: $$NEARSIDE_CONFIG, ./config.json5, then nearside/config.json5 in your configuration folder."`
	Listen   string `short:"l" placeholder:"ADDR" help:"Address to listen on (host:port); beats proxy.listen of the file."`
	FirstKey bool   `help:"Where other machines can connect and there are no keys yet, make an operator's key and show it once, instead of refusing to start."`
}

// Help teaches what serve does.
func (Serve) Help() string {
	return `Looks for model servers on this machine, starts to listen and prints where, which
backends were found, what "default" means, and a request to try. The file is
read again when it changes and on SIGHUP; a bad one keeps the old one running. What
needs a restart (listen, tls on or off, limits.headerBytes, client.read and idle, the
data folder and how responses are stored) is named in the log and in /readyz.
Ctrl-C lets streams finish (proxy.drain.graceSeconds); a second one stops at once.

Exit codes: 0 stopped; 1 could not start or streams had to be cut; 2 bad flags or configuration.`
}

// Run serves until env.Stop.
func (c *Serve) Run(env *Env) error {
	path, err := config.Find(c.Config, env.Getenv)
	if err != nil && !errors.Is(err, config.ErrNone) {
		return usageError{err}
	}
	file, problems := config.Load(path, env.configOptions())
	if len(problems.Errors()) > 0 {
		env.problems(problems)
		return usageError{fmt.Errorf("%s has %d problems; nothing was started", path, len(problems.Errors()))}
	}
	if c.Listen != "" {
		file.Proxy.Listen = c.Listen
	}
	if env.Serving != nil {
		env.Serving()
	}
	limitMemory(env.Getenv)
	logs := newLogWriter(env.Stderr, file.Log)
	defer logs.Close()
	// zerolog's own global level is the one that can change under loggers that
	// were handed out.
	zerolog.SetGlobalLevel(levelOf(file.Log.Level))
	log := zerolog.New(logs).With().Timestamp().Logger()
	for _, w := range problems.Warnings() {
		log.Warn().Str("detail", w.String()).Msg("configuration")
	}

	keys := keysPath(file)
	kept, wide, err := c.keys(env.Stdout, file, keys)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	comp := &composer{log: log, dialer: env.Dialer, file: file, kept: kept, wide: wide}
	defer comp.close()
	comp.look(ctx)
	snap, err := comp.snapshot()
	if err != nil {
		return err
	}
	started := file
	secure := new(atomic.Pointer[tls.Config])
	secure.Store(tlsOf(file))
	cert := serverTLS(secure)
	ln, err := net.Listen("tcp", file.Proxy.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w (choose another address with --listen or proxy.listen)", file.Proxy.Listen, err)
	}
	if wideAddr(ln.Addr()) && !wide { // the name means something else than a moment ago
		ln.Close()
		return fmt.Errorf("listen on %s: it is %s now, where other machines can connect: start again", file.Proxy.Listen, ln.Addr())
	}
	data, notes, err := openState(&file.Proxy, log)
	if err != nil {
		ln.Close()
		return err
	}
	defer data.close()
	var adminLn net.Listener
	if at := file.Proxy.Admin.Listen; at != "" {
		if adminLn, err = net.Listen("tcp", at); err != nil {
			ln.Close()
			return fmt.Errorf("listen on %s: %w (proxy.admin.listen)", at, err)
		}
	}
	hostname, _ := os.Hostname() // without one, other names have to do
	accounts, keepUsed, err := keepAccounts(file, log)
	if err != nil {
		ln.Close()
		return err
	}
	tracer := newTracer(&file.Proxy.Traces, env.Version, log)
	if tracer != nil {
		defer tracer.Close()
	}
	metrics := meter.New(meter.Options{Version: env.Version})
	metrics.WatchLog(logs.Dropped)
	srv := proxy.New(snap, proxy.Options{Log: log, Hostname: hostname, Descriptors: descriptors(), Meter: metrics, Dialer: env.Dialer, Version: env.Version,
		Store: data.store, Accounts: accounts, Ledger: data.ledger, Captures: data.captures, Tracer: tracer, Shaping: shaping.Options{Sealer: data.sealer}})
	srv.Reloaded(proxy.Reload{At: time.Now(), OK: true})
	for _, url := range refused(snap) {
		log.Warn().Str("address", url).Str("detail", snap.States[url].Detail).Msg("discovery")
	}
	c.greet(env.Stdout, ln.Addr().String(), cert != nil, path, snap, data, problems)
	if adminLn != nil {
		fmt.Fprintf(env.Stdout, "operator: /proxy and /metrics on %s alone\n", adminLn.Addr())
	}
	for _, n := range notes {
		fmt.Fprintln(env.Stdout, n)
		log.Warn().Str("detail", n).Msg("data folder")
	}

	var background sync.WaitGroup
	var applying sync.Mutex
	apply := func() {
		applying.Lock()
		defer applying.Unlock()
		was := srv.Snapshot()
		snap, err := comp.snapshot()
		if err != nil {
			log.Error().Err(err).Msg("configuration")
			return
		}
		srv.Apply(snap)
		told(log, was, snap)
		switch was, now := simulating(was), simulating(snap); {
		case now && !was:
			fmt.Fprintln(env.Stdout, simulatedLine)
		case was && !now:
			fmt.Fprintln(env.Stdout, "a model server was found or configured: answers are no longer simulated")
		}
	}
	var tried atomic.Pointer[config.Config] // by the last attempt, which may have failed
	tried.Store(file)
	reload := func() {
		next, problems := config.Load(path, env.configOptions())
		tried.Store(next)
		r := proxy.Reload{At: time.Now(), OK: len(problems.Errors()) == 0}
		if !r.OK {
			for _, p := range problems.Errors() {
				r.Problems = append(r.Problems, p.String())
				log.Error().Str("problem", p.String()).Msg("the new configuration is not used")
			}
			r.NeedsRestart = needRestart(started, comp.current())
			srv.Reloaded(r)
			return
		}
		if c.Listen != "" {
			next.Proxy.Listen = c.Listen
		}
		r.NeedsRestart = needRestart(started, next)
		if next.Digest == srv.Snapshot().Digest {
			srv.Reloaded(r)
			return
		}
		comp.load(next)
		comp.look(ctx)
		apply()
		zerolog.SetGlobalLevel(levelOf(next.Log.Level))
		logs.format(next.Log)
		if next.Certificate != nil {
			secure.Store(tlsOf(next))
		}
		srv.Reloaded(r)
		log.Info().Str("file", path).Str("digest", next.Digest).Msg("configuration reloaded")
		if len(r.NeedsRestart) > 0 {
			log.Warn().Strs("settings", r.NeedsRestart).Msg("these settings need a restart")
		}
	}
	var reloading sync.Mutex
	once := func() {
		reloading.Lock()
		defer reloading.Unlock()
		reload()
		// What changed in the meantime is not a change to a watcher that looks
		// after it. Whoever writes without an end is read at the next event.
		for range 3 {
			if !tried.Load().Stale() {
				break
			}
			reload()
		}
	}
	seen := func() {
		if snap, err := comp.snapshot(); err == nil {
			srv.Looked(snap.States)
		}
	}
	background.Go(func() { comp.keepLooking(ctx, apply, seen) })
	background.Go(func() { comp.keepKeys(ctx, log, keys, apply) })
	background.Go(func() { keepUsed(ctx) })
	background.Go(func() {
		// A file that only the attempt that failed knows may be what is repaired.
		files := func() []string {
			all := slices.Clone(comp.current().Files)
			for _, file := range tried.Load().Files {
				if !slices.Contains(all, file) {
					all = append(all, file)
				}
			}
			return all
		}
		began := func() {
			if tried.Load().Stale() { // changed while the backends were looked at
				once()
			}
		}
		stale := func() bool { return tried.Load().Stale() }
		if err := config.Watch(ctx, files, watchDebounce, stale, began, once); err != nil && ctx.Err() == nil {
			log.Warn().Err(err).Msg("changes of the configuration file are not noticed; send SIGHUP instead")
		}
	})
	background.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-env.Reload:
				once()
			}
		}
	})

	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln, cert) }()
	background.Go(trim)
	defer announce(file, ln.Addr().String(), env.Version, log)()
	supervise(ctx, env, &file.Proxy, ln.Addr().String(), &background)
	if adminLn != nil {
		background.Go(func() {
			if err := srv.ServeAdmin(adminLn, cert); err != nil && !errors.Is(err, net.ErrClosed) {
				log.Error().Err(err).Str("setting", "proxy.admin.listen").Msg("the operator's endpoints are not served any more")
			}
		})
	}
	var result error
	select {
	case err := <-served:
		result = err
	case <-env.Stop:
		notify(env, "STOPPING=1")
		fmt.Fprintln(env.Stdout, "stopping: streams may finish (Ctrl-C again to cut them)")
		drain, cut := context.WithCancel(context.Background())
		go func() {
			select {
			case <-env.Stop:
				cut()
			case <-drain.Done():
			}
		}()
		result = srv.Shutdown(drain)
		cut()
		if err := <-served; result == nil && err != nil && !errors.Is(err, net.ErrClosed) {
			result = err
		}
	}
	cancel()
	if adminLn != nil {
		adminLn.Close()
	}
	background.Wait()
	return result
}

const watchDebounce = 200 * time.Millisecond

// told logs the addresses that our own policy refuses since a snapshot.
func told(log zerolog.Logger, was, now *proxy.Snapshot) {
	for _, url := range refused(now) {
		if _, ok := was.States[url]; !ok {
			log.Warn().Str("address", url).Str("detail", now.States[url].Detail).Msg("discovery")
		}
	}
}

// needRestart names the settings that differ from those the process was started
// with and that a listener or its connections hold for their life.
func needRestart(started, now *config.Config) []string {
	was, is := &started.Proxy, &now.Proxy
	var names []string
	for _, s := range []struct {
		name string
		same bool
	}{
		{"proxy.listen", was.Listen == is.Listen},
		{"proxy.admin.listen", was.Admin.Listen == is.Admin.Listen},
		{"proxy.tls", (started.Certificate == nil) == (now.Certificate == nil)}, // a renewed certificate is taken over
		{"proxy.limits.headerBytes", was.Limits.HeaderBytes == is.Limits.HeaderBytes},
		{"proxy.client.readSeconds", was.Client.Read == is.Client.Read},
		{"proxy.client.idleSeconds", was.Client.Idle == is.Client.Idle},
		{"proxy.dataDir", was.DataDir == is.DataDir},
		{"proxy.mdns", started.MDNS == now.MDNS},
		{"proxy.responses.store", was.Responses.Store == is.Responses.Store},
		{"proxy.responses.maxAgeSeconds", was.Responses.MaxAge == is.Responses.MaxAge},
		{"proxy.responses.maxBytes", was.Responses.MaxBytes == is.Responses.MaxBytes},
		{"proxy.responses.sealKey", was.Responses.SealKey == is.Responses.SealKey},
		{"proxy.ledger", sameLedger(was.Ledger, is.Ledger)},
		{"proxy.traces", sameTraces(was.Traces, is.Traces)},
		{"proxy.capture.maxAgeSeconds, maxBytes or queueBytes", was.Capture.MaxAge == is.Capture.MaxAge && was.Capture.MaxBytes == is.Capture.MaxBytes && was.Capture.Queue == is.Capture.Queue},
		{"proxy.responses.background", was.Responses.Background == is.Responses.Background},
	} {
		if !s.same {
			names = append(names, s.name)
		}
	}
	return names
}

// sameLedger says whether the settings agree that hold from the start on.
func sameLedger(was, is proxy.LedgerConfig) bool {
	was.CompareWith = is.CompareWith
	return was == is
}

// serverTLS is the TLS of proxy.tls, each handshake with the certificates that
// are in force then; nil for plain HTTP.
func serverTLS(now *atomic.Pointer[tls.Config]) *tls.Config {
	if now.Load() == nil {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return now.Load(), nil }}
}

// tlsOf is what one configuration says of it; nil for plain HTTP.
func tlsOf(file *config.Config) *tls.Config {
	if file.Certificate == nil {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{*file.Certificate}}
	if file.ClientCA != nil {
		c.ClientCAs, c.ClientAuth = file.ClientCA, tls.RequireAndVerifyClientCert
	}
	return c
}

const simulatedLine = "no model server was found and no provider is configured: answers are SIMULATED (model sim/" + simModel + ") until one is"

// greet prints what a person wants to know at the start.
func (c *Serve) greet(w io.Writer, addr string, secure bool, path string, snap *proxy.Snapshot, kept state, problems config.Problems) {
	at, others := callable(addr)
	base := "http://" + at
	if secure {
		base = "https://" + at
	}
	if path == "" {
		path = "built-in defaults (no configuration file found)"
	}
	fmt.Fprintf(w, "nearside listens on %s/v1%s   (configuration: %s)\n", base, others, path)
	if simulating(snap) {
		fmt.Fprintln(w, simulatedLine)
	}
	unavailable := 0
	for _, p := range snap.Catalog.Providers {
		if p.Source == catalog.FromSim {
			continue
		}
		if p.Unavailable != "" {
			if p.Source == catalog.FromConfig {
				fmt.Fprintf(w, "  %-12s unavailable: %s\n", p.ID, p.Unavailable)
			} else {
				unavailable++
			}
			continue
		}
		if p.Source == catalog.FromBuiltin && len(p.Models) > 0 {
			fmt.Fprintf(w, "  %-12s far   %s, %d models of the built-in catalogue\n", p.ID, p.BaseURL, len(p.Models))
			continue
		}
		st := snap.States[p.ID]
		route, state := "far ", st.State
		if p.Near {
			route = "near"
		}
		if state == "" {
			state = "not probed"
		}
		names := make([]string, 0, 4)
		for i, m := range p.Models {
			if i == 3 {
				names = append(names, fmt.Sprintf("… %d more", len(p.Models)-3))
				break
			}
			names = append(names, m.ID)
		}
		fmt.Fprintf(w, "  %-12s %s  %s  %s  %s\n", p.ID, route, p.BaseURL, state, strings.Join(names, ", "))
		table(w, strings.Repeat(" ", 21), endpointRows(snap, p.ID))
		if st.Detail != "" && state != "ready" {
			fmt.Fprintf(w, "  %-12s       %s\n", "", st.Detail)
		}
	}
	for _, url := range refused(snap) {
		fmt.Fprintf(w, "  %s is not asked: %s\n", url, snap.States[url].Detail)
	}
	if unavailable > 0 {
		fmt.Fprintf(w, "  %d built-in hosted providers wait for their key (nearside models --all)\n", unavailable)
	}
	fmt.Fprintf(w, "default: %s\n", defaultText(snap))
	fmt.Fprintln(w, "clients: /v1/chat/completions, /v1/responses and /v1/messages, each for every backend")
	fmt.Fprintf(w, "stored:  %s\n", storedText(&snap.Config, kept))
	fmt.Fprintf(w, "keys:    %s\n", accessText(snap.Config.Keys))
	if at := snap.Config.Traces.Endpoint; at != "" {
		fmt.Fprintf(w, "traces:  to %s (proxy.traces)\n", at)
	}
	if n := len(problems.Warnings()); n > 0 {
		fmt.Fprintf(w, "%s: nearside check\n", count(n, "warning"))
	}
	fmt.Fprintf(w, "try:  %s\n", curl(base, snap))
}

// callable returns an address that clients on this machine can use, and what
// to say of the others.
func callable(addr string) (at, others string) {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsUnspecified() {
		return addr, ""
	}
	return net.JoinHostPort("127.0.0.1", port), " and on every other address of this machine"
}

// curl is a first request for default, at the endpoint that the target which
// would get it speaks.
func curl(base string, snap *proxy.Snapshot) string {
	path, body := "/v1/chat/completions", `{"model":"default","messages":[{"role":"user","content":"Say hello"}]}`
	res, err := snap.Catalog.Resolve(catalog.DefaultName, catalog.ResolveOptions{Ready: snap.Ready})
	for i := 0; err == nil && i < len(res.Models); i++ {
		m := res.Models[i]
		if m.Unavailable != "" || m.Provider.Unavailable != "" {
			continue
		}
		if !m.Speaks(wire.Chat) && m.Speaks(wire.Responses) {
			path, body = "/v1/responses", `{"model":"default","input":"Say hello"}`
		}
		break
	}
	if snap.Config.Keys.Required() {
		path += " -H \"authorization: Bearer $NEARSIDE_KEY\""
	}
	return "curl -s " + base + path + " -H 'content-type: application/json' -d '" + body + "'"
}

// storedText says where responses are kept and for how long: what people would
// want to know before they send anything private.
func storedText(cfg *proxy.Config, kept state) string {
	if kept.store == nil {
		return "nothing (proxy.responses.store)"
	}
	where := "in memory"
	if kept.file != "" {
		where = "in " + kept.file
	}
	until := "until they are deleted"
	if age := cfg.Responses.MaxAge; age >= 48*time.Hour {
		until = fmt.Sprintf("for %d days", int(age.Hours()/24))
	} else if age > 0 {
		until = "for " + age.String()
	}
	return "responses " + where + ", " + until + "; store: false keeps none (proxy.responses)"
}

// defaultText says what "default" means now, as a request would find it.
func defaultText(snap *proxy.Snapshot) string {
	const shown = 4
	res, err := snap.Catalog.Resolve(catalog.DefaultName, catalog.ResolveOptions{Ready: snap.Ready})
	if err != nil {
		return err.Error()
	}
	var refs []string
	for i, m := range res.Models {
		if i == shown {
			refs = append(refs, "…")
			break
		}
		ref := m.Ref()
		if m.Unavailable != "" {
			ref += " (" + m.Unavailable + ")"
		}
		refs = append(refs, ref)
	}
	if len(refs) == 0 {
		return "nothing; set agents.defaults.model or start a model server"
	}
	return strings.Join(refs, " → ")
}
