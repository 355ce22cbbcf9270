package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"nearside/catalog"
)

// Found is what a server said of itself. Two looks at an unchanged server give
// equal values, errors aside.
type Found struct {
	URL  string       // base URL that requests go below, with its /v1; no trailing slash
	Kind catalog.Kind // the software, KindUnknown for one that only speaks the common API
	// Told says that Kind was told by the server's answers.
	Told bool
	// Version is the software's own, empty when it does not say.
	Version string
	State   string // StateReady, StateLoading, …; empty with Err
	Detail  string // why the state is not ready, for people
	Keyed   bool   // it asks for a key, and was sent none
	Models  []FoundModel
	Slots   int // requests it serves at once; 0 when it does not say
	// Simulated says that one of our own simulated backends imitates Kind.
	Simulated bool
	// Err is why nothing is known: the server could not be asked, or what
	// answered is no model server. The connection's faults are *Error values.
	Err error
}

// The states that a look can tell. Only completions show saturation.
const (
	StateReady         = "ready"
	StateLoading       = "loading"       // a model is being loaded now
	StateAsleep        = "asleep"        // the next request loads a model first
	StateFailing       = "failing"       // it answers with errors of its own
	StateMisconfigured = "misconfigured" // a setting of ours or of the server must change
)

// FoundModel is one model that a server lists.
type FoundModel struct {
	ID string
	// ContextWindow is what the server will hold as far as it says: the length
	// a model was loaded with, else the one it would be, else ContextMax.
	ContextWindow int
	ContextMax    int      // what the model itself can do; 0 when not said
	Loaded        bool     // in memory now
	Input         []string // nil when not said
	Type          string   // "llm" or "embeddings"; empty when not said
	Tools         *bool    // nil when not said
	Reasoning     bool
	Efforts       []string // the reasoning efforts that the model takes; nil when not said
}

// Model returns what is known of a model by the name that requests give it, or
// nil. Servers are not strict: Ollama takes "x" for "x:latest", and llama.cpp
// serves its one model under any name.
func (f *Found) Model(id string) *FoundModel {
	for i := range f.Models {
		if f.Models[i].ID == id {
			return &f.Models[i]
		}
	}
	switch f.Kind {
	case catalog.KindOllama:
		for i := range f.Models {
			if strings.EqualFold(strings.TrimSuffix(f.Models[i].ID, ":latest"), strings.TrimSuffix(id, ":latest")) {
				return &f.Models[i]
			}
		}
	case catalog.KindLlamaCPP:
		if len(f.Models) == 1 {
			return &f.Models[0]
		}
	}
	return nil
}

// DiscoverAddress is one place to look at.
type DiscoverAddress struct {
	URL  string       // "http://127.0.0.1:1234", "127.0.0.1:1234"; with a path when the API is not below /v1
	Kind catalog.Kind // what it is when its answers do not tell
	// AllowPrivate admits a private address, as request.allowPrivateNetwork does.
	AllowPrivate bool
	// Known says that a server was found there before: it is returned, with what
	// is wrong with it now, also when it does not answer as one.
	Known bool
}

// DiscoverOptions say where Discover looks and how.
type DiscoverOptions struct {
	Addresses []DiscoverAddress
	Timeout   time.Duration // for one address; 1 s when 0
	Dialer    Dialer        // its Policy is replaced: what an address does not admit is refused, loopback aside
}

// InspectOptions say how Inspect asks.
type InspectOptions struct {
	Timeout time.Duration // 1 s when 0
	Dialer  Dialer        // its Policy is replaced by the provider's
}

const (
	discoverTimeout = time.Second
	// discoverParallel bounds the addresses asked at once.
	discoverParallel = 8
)

// Discover asks the addresses what they are and returns those that answer as a
// model server, in the order given. Places where nothing listens, or something
// else does, are left out unless Known; an address that our policy refuses is
// returned with its Err, since somebody wrote it down. It never asks for a completion, follows
// no redirect and sends no credential.
func Discover(ctx context.Context, opt DiscoverOptions) []Found {
	all := make([]Found, len(opt.Addresses))
	known := make([]bool, len(opt.Addresses))
	slots := make(chan struct{}, discoverParallel)
	var wg sync.WaitGroup
	seen := map[string]bool{}
	for i, a := range opt.Addresses {
		raw := a.URL
		if !strings.Contains(raw, "://") {
			raw = "http://" + raw
		}
		u, err := url.Parse(raw)
		if err == nil && strings.Trim(u.Path, "/") == "" {
			u.Path = "/v1"
			raw = u.String()
		}
		if seen[raw] {
			continue
		}
		seen[raw] = true
		cfg := Config{ID: discoverID, BaseURL: raw, Near: true, Kind: a.Kind, API: catalog.Completions}
		if a.AllowPrivate {
			cfg.AllowPrivate = &a.AllowPrivate
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			all[i], known[i] = look(ctx, cfg, opt.Dialer, opt.Timeout)
			if a.Known && !known[i] {
				known[i] = true
				if all[i].Err == nil && all[i].State == "" {
					all[i].Err = errNoServer
				}
			}
		})
	}
	wg.Wait()
	found := all[:0]
	for i, f := range all {
		var refused *AddressError
		if known[i] || errors.As(f.Err, &refused) {
			found = append(found, f)
		}
	}
	return found
}

// Inspect asks a configured provider, with its key and headers, what it is and
// has. A hosted one is asked for its model list only. Found.Kind is the
// configured one where the answers do not tell.
func Inspect(ctx context.Context, cfg Config, opt InspectOptions) Found {
	f, _ := look(ctx, cfg, opt.Dialer, opt.Timeout)
	return f
}

var errNoServer = errors.New("what answers there now is no model server")

// discoverID stands for the id that a provider does not have yet.
const discoverID = "<id>"

// look asks one server, within its time. known says that its answers show a
// model server.
func look(ctx context.Context, cfg Config, d Dialer, timeout time.Duration) (f Found, known bool) {
	if timeout <= 0 {
		timeout = discoverTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a, err := newAsker(cfg, d)
	if err != nil {
		return Found{URL: cfg.BaseURL, Kind: cfg.Kind, Err: err}, false
	}
	defer a.close()
	f = Found{URL: a.base, Kind: cfg.Kind}
	models, err := a.get(ctx, a.modelsPath())
	if err != nil {
		f.Err = err
		return f, false
	}
	f.Simulated = models.header.Get("x-nearside-simulated") == "1"
	if cfg.ID == discoverID && !f.Simulated && strings.HasPrefix(strings.ToLower(models.header.Get("Server")), "nearside") {
		return f, false // a proxy that finds itself would send requests in a circle
	}
	list, listed := readList(models)
	known = listed
	if cfg.Near {
		if k := a.identify(ctx, models, list, listed); k != catalog.KindUnknown {
			f.Kind, f.Told, known = k, true, true
		}
	} else if listed && models.litellm() { // a hosted one is asked nothing further
		f.Kind, f.Told = catalog.KindLiteLLM, true
	}
	a.judge(ctx, &f, models, listed)
	if f.State != StateReady && f.State != StateLoading {
		return f, known
	}
	f.Models = list.found()
	if !cfg.Near {
		return f, known
	}
	switch f.Kind {
	case catalog.KindLMStudio:
		a.lmStudio(ctx, &f)
	case catalog.KindOllama:
		a.ollama(ctx, &f)
	case catalog.KindLlamaCPP:
		a.llamaCPP(ctx, &f)
	case catalog.KindVLLM:
		f.Version = a.version(ctx, "/version")
	case catalog.KindSGLang:
		a.sglang(ctx, &f)
	}
	return f, known
}

// judge sets the state that the answer to the model list tells.
func (a *asker) judge(ctx context.Context, f *Found, r reply, listed bool) {
	at := a.base + a.modelsPath()
	say := func(state, detail string) { f.State, f.Detail = state, detail }
	switch {
	case r.status == http.StatusOK && listed:
		say(StateReady, "")
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden:
		if a.keyed {
			say(StateMisconfigured, "the key is refused: see "+a.policy.setting("apiKey"))
		} else {
			say(StateMisconfigured, "it asks for a key: set "+a.policy.setting("apiKey"))
			f.Keyed = true
		}
	case r.status >= 300 && r.status < 400:
		say(StateMisconfigured, at+" redirects, and none is followed: write the final address in "+a.policy.setting("baseUrl"))
	case r.status == http.StatusServiceUnavailable && r.says("loading"):
		say(StateLoading, "a model is being loaded")
	case r.status >= 500:
		say(StateFailing, at+" answers "+http.StatusText(r.status))
	case !a.near && !r.html() && (r.status == http.StatusNotFound || r.status == http.StatusMethodNotAllowed):
		say(StateReady, "it has no model list") // some hosted APIs do not
	default:
		say(StateMisconfigured, at+" is not a model list: see "+a.policy.setting("baseUrl"))
		if a.near && !strings.HasSuffix(a.base, "/v1") {
			if r, err := a.get(ctx, "/v1/models"); err == nil {
				if _, ok := readList(r); ok {
					say(StateMisconfigured, "write "+a.base+"/v1 in "+a.policy.setting("baseUrl")+": the model list is there")
				}
			}
		}
	}
}
