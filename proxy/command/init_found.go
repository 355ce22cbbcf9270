package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"nearside/catalog"
	"nearside/proxy/config"
	"nearside/upstream"
)

// servers finds those on this machine and on the hosts that are named.
func (c *Init) servers(ctx context.Context, env *Env, p *prompts, taken map[string]bool) (all []*candidate, err error) {
	usual := config.UsualAddresses()
	var here []upstream.DiscoverAddress
	if !c.NoDiscovery {
		fmt.Fprintln(env.Stderr, "Looking for model servers on this machine …")
		for _, a := range usual {
			here = append(here, upstream.DiscoverAddress{URL: a.URL, Kind: a.Kind})
		}
	}
	found := upstream.Discover(ctx, upstream.DiscoverOptions{Addresses: here, Timeout: c.Timeout, Dialer: env.Dialer})
	if len(found) == 0 && !c.NoDiscovery {
		fmt.Fprintln(env.Stderr, "  none is running here")
	}
	hosts := c.Host
	if p.asks && len(hosts) == 0 {
		line, err := p.ask("Other machines of yours with a model server (gpubox, 192.168.1.20:8000; empty for none)", "")
		if err != nil {
			return nil, err
		}
		hosts = strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == ',' })
	}
	for _, host := range hosts {
		there, err := c.host(ctx, env, host, usual)
		if err != nil {
			return nil, err
		}
		found = append(found, there...)
	}
	if ctx.Err() != nil {
		return nil, errStopped
	}
	for _, f := range found {
		if i := slices.IndexFunc(all, func(o *candidate) bool { return serverPlace(o.base) == serverPlace(f.URL) }); i >= 0 {
			fmt.Fprintf(env.Stderr, "  %s is the one at %s\n", f.URL, all[i].base)
			continue
		}
		if all, err = c.server(ctx, env, p, f, taken, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// serverPlace tells servers apart: by host and port, and on this machine, which has several
// names, by the port.
func serverPlace(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base
	}
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	host := strings.ToLower(u.Hostname())
	switch host {
	case "127.0.0.1", "::1", "0.0.0.0", "::":
		host = "localhost"
	}
	return net.JoinHostPort(host, port) + strings.TrimRight(u.Path, "/")
}

// join adds an endpoint that somebody named, in the place of what was found there.
func join(all []*candidate, one *candidate, taken map[string]bool) []*candidate {
	all = slices.DeleteFunc(all, func(o *candidate) bool {
		same := serverPlace(o.base) == serverPlace(one.base)
		if same {
			delete(taken, o.id)
		}
		return same
	})
	one.id = freeID(one.id, taken)
	return append(all, one)
}

// neighbours tells of the proxies that announce themselves. Whoever answers in a network
// may be anybody, so none is taken unless a person says so.
func (c *Init) neighbours(ctx context.Context, env *Env, p *prompts, taken map[string]bool, all []*candidate) ([]*candidate, error) {
	if !c.LAN {
		return all, nil
	}
	fmt.Fprintln(env.Stderr, "Listening for proxies that announce themselves in this network …")
	look := c.browse
	if look == nil {
		look = browse
	}
	there, err := look(ctx, &config.Config{}, browseTime)
	switch {
	case ctx.Err() != nil:
		return nil, errStopped
	case err != nil:
		return nil, exitError{ExitFailed, err}
	case len(there) == 0:
		fmt.Fprintln(env.Stderr, "  none does (proxy.mdns.announce)")
	}
	for _, n := range there {
		fmt.Fprintf(env.Stderr, "  Nearside %q at %s\n", n.shown(), n.URL)
		if slices.ContainsFunc(all, func(o *candidate) bool { return serverPlace(o.base) == serverPlace(n.URL) }) {
			continue
		}
		if !p.asks {
			fmt.Fprintf(env.Stderr, "    if it is yours: nearside init --base-url %s --id %s --api-key NAME\n", n.URL, n.id())
			continue
		}
		use, err := p.yes("  Is it yours, and to be used?", false)
		if err != nil {
			return nil, err
		}
		if !use {
			continue
		}
		if all, err = c.keyed(ctx, env, p, taken, all, &Onboard{URL: n.URL, ID: n.id()}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// keyed asks for the key of a server, and adds it. One that cannot be used is told and
// left out.
func (c *Init) keyed(ctx context.Context, env *Env, p *prompts, taken map[string]bool, all []*candidate, look *Onboard) ([]*candidate, error) {
	key, err := p.ask("  Environment variable that holds its key (empty for none)", "")
	if err != nil {
		return nil, err
	}
	one, err := c.endpoint(ctx, env, p, look, key)
	switch {
	case errors.Is(err, errStopped):
		return nil, err
	case err != nil:
		fmt.Fprintf(env.Stderr, "  %v\n", err)
		return all, nil
	}
	return join(all, one, taken), nil
}

// inFlags says in the words of a command line what is told of a configuration that is
// not there yet.
func inFlags(detail, id, key, base string) string {
	at := "models.providers." + id + "."
	return strings.NewReplacer("set "+at+"apiKey", "name the variable with it in "+key, at+"apiKey", key, at+"baseUrl", base).Replace(detail)
}

// host looks at a machine that somebody named.
func (c *Init) host(ctx context.Context, env *Env, host string, usual []config.DiscoveryAddress) ([]upstream.Found, error) {
	var there []upstream.DiscoverAddress
	add := func(at string, kind catalog.Kind) {
		there = append(there, upstream.DiscoverAddress{URL: at, Kind: kind, AllowPrivate: catalog.PlaceOf(at) == catalog.PlacePrivate})
	}
	at := host
	if !strings.Contains(at, "://") {
		at = "http://" + at
	}
	u, err := url.Parse(at)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, usageError{fmt.Errorf("--host: %q is no host: gpubox, 192.168.1.20 or gpubox:8000", host)}
	}
	if !catalog.PlaceOf(at).Near() {
		return nil, usageError{fmt.Errorf("--host: %s is not on your network; an endpoint on the internet is named with --base-url https://…", host)}
	}
	if u.Port() != "" {
		add(at, catalog.KindUnknown)
	} else {
		for _, a := range usual {
			port, err := url.Parse(a.URL)
			if err == nil {
				add(u.Scheme+"://"+net.JoinHostPort(u.Hostname(), port.Port()), a.Kind)
			}
		}
	}
	fmt.Fprintf(env.Stderr, "Looking at %s …\n", host)
	found := upstream.Discover(ctx, upstream.DiscoverOptions{Addresses: there, Timeout: c.Timeout, Dialer: env.Dialer})
	if len(found) == 0 && ctx.Err() == nil {
		return nil, exitError{ExitFailed, fmt.Errorf("no model server answers at %s: is one running there, and does it listen on more than its own 127.0.0.1?", host)}
	}
	return found, nil
}

// server adds a server that was found, unless it is not wanted or cannot be used.
func (c *Init) server(ctx context.Context, env *Env, p *prompts, f upstream.Found, taken map[string]bool, all []*candidate) ([]*candidate, error) {
	if f.Err != nil {
		fmt.Fprintf(env.Stderr, "  %s: %v\n", f.URL, f.Err)
		return all, nil
	}
	id := foundID(f, map[string]bool{})
	private := catalog.PlaceOf(f.URL) == catalog.PlacePrivate
	if private {
		if u, err := url.Parse(f.URL); err == nil {
			host, _, _ := strings.Cut(u.Hostname(), ".")
			if net.ParseIP(u.Hostname()) != nil {
				host = u.Hostname()
			}
			id += "-" + strings.Trim(notInAName.ReplaceAllString(strings.ToLower(host), "-"), "-")
		}
	}
	look := &Onboard{URL: f.URL}
	models, notes, err := look.models(&f)
	name := kindName(f.Kind)
	switch {
	case f.Keyed && p.asks:
		fmt.Fprintf(env.Stderr, "  %s at %s asks for a key\n", name, f.URL)
		look.ID = id
		return c.keyed(ctx, env, p, taken, all, look)
	case f.Keyed:
		fmt.Fprintf(env.Stderr, "  %s at %s asks for a key: --base-url %[2]s --api-key NAME --id %s, with the key in the variable NAME\n", name, f.URL, id)
		return all, nil
	case err != nil:
		fmt.Fprintf(env.Stderr, "  %s at %s has no models: load or pull one, and run this again\n", name, f.URL)
		return all, nil
	}
	fmt.Fprintf(env.Stderr, "  %s at %s, %s: %s\n", name, f.URL, f.State, modelNames(models))
	for _, n := range notes {
		fmt.Fprintln(env.Stderr, "    "+n)
	}
	use, err := p.yes("  Use it?", true)
	if err != nil || !use {
		return all, err
	}
	return append(all, &candidate{id: freeID(id, taken), base: f.URL, private: private, found: f, look: look, models: models}), nil
}

// freeID returns an id that no other provider has, and takes it.
func freeID(id string, taken map[string]bool) string {
	free := id
	for n := 2; taken[free]; n++ {
		free = fmt.Sprintf("%s-%d", id, n)
	}
	taken[free] = true
	return free
}

// kindName is what people call a server's software.
func kindName(k catalog.Kind) string {
	if name := kindNames[k]; name != "" {
		return name
	}
	return "A model server"
}

var kindNames = map[catalog.Kind]string{catalog.KindLMStudio: "LM Studio", catalog.KindOllama: "Ollama", catalog.KindVLLM: "vLLM", catalog.KindSGLang: "SGLang",
	catalog.KindLlamaCPP: "llama.cpp", catalog.KindMLX: "MLX"}

func modelNames(models []upstream.FoundModel) string {
	const most = 5
	var names []string
	for i := range models {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(models)-most))
			break
		}
		names = append(names, models[i].ID)
	}
	return strings.Join(names, ", ")
}
