package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/goccy/go-json"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// Warmth is what a server says of a model before anybody asks it for anything.
type Warmth struct {
	Known  bool      // it says which models it has loaded
	Loaded bool      // this one is
	Until  time.Time // when it will unload it; zero when it does not say
}

// WarmOptions say how a model is loaded ahead of requests.
type WarmOptions struct {
	Keep    time.Duration // how long it is to stay when nobody asks it; 0 for as long as the server will
	Again   time.Duration // how soon it is looked after again
	Context int           // the window to load it with; 0 for the server's own
}

// Warmth asks the place that serves a model whether it is loaded, which costs
// nothing and loads nothing.
func (p *Pool) Warmth(ctx context.Context, m *catalog.Model, baseURL string) (Warmth, error) {
	a, kind, err := p.warmer(m, baseURL)
	if err != nil {
		return Warmth{}, err
	}
	defer a.close()
	return a.warmth(ctx, kind, m.ID)
}

// Warm has the place that serves a model load it, in the way of its software, and
// returns when that has loaded it, with what Cool needs. Where the software has no
// way, it is a request for one token.
func (p *Pool) Warm(ctx context.Context, m *catalog.Model, baseURL string, opt WarmOptions) (instance string, err error) {
	a, kind, err := p.warmer(m, baseURL)
	if err != nil {
		return "", err
	}
	defer a.close()
	switch kind {
	case catalog.KindOllama:
		return "", a.warmOllama(ctx, m.ID, opt)
	case catalog.KindLMStudio:
		return a.warmLMStudio(ctx, m, opt)
	case catalog.KindLlamaCPP:
		return a.warmLlamaCPP(ctx, m)
	}
	return "", a.oneToken(ctx, m, 0)
}

// Cool has a server unload what Warm has loaded, where it does not by itself.
func (p *Pool) Cool(ctx context.Context, m *catalog.Model, baseURL, instance string) error {
	a, kind, err := p.warmer(m, baseURL)
	if err != nil {
		return err
	}
	defer a.close()
	path, body := "/api/v1/models/unload", wire.AppendString([]byte(`{"instance_id":`), instance)
	if kind == catalog.KindLlamaCPP {
		path, body = "/models/unload", wire.AppendString([]byte(`{"model":`), instance)
	}
	_, err = a.tells(a.ask(ctx, http.MethodPost, a.root+path, append(body, '}')))
	return err
}

// warmer asks a near place about a model. Far ones are never asked: there is
// nothing there to be loaded for us, and every token costs.
func (p *Pool) warmer(m *catalog.Model, baseURL string) (*asker, catalog.Kind, error) {
	p.mu.Lock()
	c, ok := p.configs[m.Provider.ID]
	p.mu.Unlock()
	switch {
	case !ok:
		return nil, "", fmt.Errorf("provider %q is no longer configured", m.Provider.ID)
	case !c.Near:
		return nil, "", fmt.Errorf("provider %q is far: only near models are kept warm", m.Provider.ID)
	}
	kind := m.Provider.Kind
	if kind == catalog.KindUnknown {
		kind = c.Kind
	}
	c.BaseURL, c.Endpoints, c.API = baseURL, nil, m.API
	a, err := newAsker(c, p.opt.Dialer)
	return a, kind, err
}

func (a *asker) warmth(ctx context.Context, kind catalog.Kind, id string) (Warmth, error) {
	r, err := a.get(ctx, a.modelsPath())
	if err != nil {
		return Warmth{}, err
	}
	list, listed := readList(r)
	f := Found{URL: a.base, Kind: kind}
	if a.judge(ctx, &f, r, listed); f.State != StateReady {
		return Warmth{}, errors.New(f.Detail)
	}
	f.Models = list.found()
	switch kind {
	case catalog.KindLMStudio:
		a.lmStudio(ctx, &f)
	case catalog.KindOllama:
		return a.warmthOllama(ctx, id)
	case catalog.KindLlamaCPP:
		if len(f.Models) == 1 && !list.says() {
			return Warmth{Known: true, Loaded: true}, nil
		}
	case catalog.KindVLLM, catalog.KindSGLang:
		return Warmth{Known: true, Loaded: f.Model(id) != nil}, nil
	default:
		return Warmth{}, nil
	}
	m := f.Model(id)
	if m == nil {
		return Warmth{}, fmt.Errorf("it has no model %q", id)
	}
	return Warmth{Known: true, Loaded: m.Loaded}, nil
}

func (a *asker) warmthOllama(ctx context.Context, id string) (Warmth, error) {
	var ps struct {
		Models []struct {
			Name  string    `json:"name"`
			Until time.Time `json:"expires_at"`
		} `json:"models"`
	}
	r, err := a.own(ctx, "/api/ps")
	if err != nil {
		return Warmth{}, err
	}
	if !r.into(&ps) {
		return Warmth{}, nil
	}
	w := Warmth{Known: true}
	loaded := Found{Kind: catalog.KindOllama}
	for _, m := range ps.Models {
		loaded.Models = append(loaded.Models, FoundModel{ID: m.Name})
		if loaded.Model(id) != nil && !w.Loaded {
			w.Loaded, w.Until = true, m.Until
		}
	}
	return w, nil
}

// ollamaKeepMin is how long Ollama keeps a model, at the least, that is kept for as long
// as we run.
const ollamaKeepMin = 10 * time.Minute

// warmOllama sends an empty prompt, which loads, and says how long to keep it.
// Below a second it would be unloaded at once.
func (a *asker) warmOllama(ctx context.Context, id string, opt WarmOptions) error {
	keep := opt.Keep
	if keep == 0 { // for ever would be beyond our own end
		keep = max(4*opt.Again, ollamaKeepMin)
	}
	body := wire.AppendString([]byte(`{"model":`), id)
	body = append(strconv.AppendInt(append(body, `,"stream":false,"keep_alive":`...), int64(math.Ceil(keep.Seconds())), 10), '}')
	_, err := a.tells(a.ask(ctx, http.MethodPost, a.root+"/api/generate", body))
	return err
}

// warmLMStudio loads by the API of LM Studio 0.4. Older ones load what a request
// names, and unload it when nobody asked for as long as the request said.
func (a *asker) warmLMStudio(ctx context.Context, m *catalog.Model, opt WarmOptions) (string, error) {
	body := wire.AppendString([]byte(`{"model":`), m.ID)
	if opt.Context > 0 {
		body = strconv.AppendInt(append(body, `,"context_length":`...), int64(opt.Context), 10)
	}
	r, err := a.ask(ctx, http.MethodPost, a.root+"/api/v1/models/load", append(body, '}'))
	if err == nil && (r.unexpected() || r.status == http.StatusNotFound && !r.says("model")) {
		return "", a.oneToken(ctx, m, opt.Keep)
	}
	if r, err = a.tells(r, err); err != nil {
		return "", err
	}
	var said struct {
		Instance string `json:"instance_id"`
		Status   string `json:"status"`
	}
	if !r.into(&said) || said.Status != "loaded" {
		return "", fmt.Errorf("%s: it does not say that the model is loaded (%.100s)", a.id, r.body)
	}
	return said.Instance, nil
}

// loadLook is how often a server that loads in the background is asked whether it
// has.
const loadLook = 250 * time.Millisecond

// warmLlamaCPP loads a model of a server that has several; one that serves a
// single model has it loaded before it answers.
func (a *asker) warmLlamaCPP(ctx context.Context, m *catalog.Model) (string, error) {
	body := append(wire.AppendString([]byte(`{"model":`), m.ID), '}')
	if _, err := a.tells(a.ask(ctx, http.MethodPost, a.root+"/models/load", body)); err != nil {
		return "", err
	}
	for {
		w, err := a.warmth(ctx, catalog.KindLlamaCPP, m.ID)
		if err != nil || w.Loaded {
			return m.ID, err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(loadLook):
		}
	}
}

// oneToken asks for one token. Keep goes along as LM Studio's own ttl; 0 for none.
func (a *asker) oneToken(ctx context.Context, m *catalog.Model, keep time.Duration) error {
	body, path := wire.AppendString([]byte(`{"model":`), m.ID), "/chat/completions"
	switch m.Dialect() {
	case wire.Responses:
		body, path = append(body, `,"input":"hi","max_output_tokens":16`...), "/responses"
	case wire.Messages:
		body = append(body, `,"messages":[{"role":"user","content":"hi"}],"max_tokens":1`...)
		path = a.modelsPath()
		path = path[:len(path)-len("models")] + "messages"
	default:
		body = append(body, `,"messages":[{"role":"user","content":"hi"}],"max_tokens":1`...)
	}
	if keep > 0 {
		body = strconv.AppendInt(append(body, `,"ttl":`...), int64(math.Ceil(keep.Seconds())), 10)
	}
	_, err := a.tells(a.ask(ctx, http.MethodPost, a.base+path, append(body, '}')))
	return err
}

// tells makes an error of an answer that is one.
func (a *asker) tells(r reply, err error) (reply, error) {
	if err != nil {
		return r, err
	}
	var e struct {
		Error json.RawMessage `json:"error"`
	}
	said := json.Unmarshal(r.body, &e) == nil && len(e.Error) > 0 && !bytes.Equal(e.Error, []byte("null"))
	if r.status == http.StatusOK && !said {
		return r, nil
	}
	return r, fmt.Errorf("%s: status %d: %s", a.id, r.status, wire.ParseError(r.status, r.header.Get("Content-Type"), r.body).Message)
}

// LastContent returns when the model last said something; zero for never.
func (m *Model) LastContent() time.Time {
	if at := m.warm.Load(); at > 0 {
		return moment(at)
	}
	return time.Time{}
}

// Warming takes in that the model is being loaded ahead of requests, which wait for
// it as for any load; after is how long that is known to take. Warmed ends it: the
// model is there, or it is not and requests may try.
func (m *Model) Warming(after time.Duration, now time.Time) {
	m.Hold(StateLoading, "it is being loaded ahead of requests", after, now)
}

// Warmed is the end of Warming.
func (m *Model) Warmed(loaded bool, now time.Time) {
	s := m.states
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.unlock()
	if loaded {
		m.warm.Store(nanos(now))
		m.row.look = stateSaid{state: StateReady} // the last look may have seen it without a model
	}
	if m.held.Load() && m.hold.state == StateLoading {
		m.proven()
		m.release(now, loaded)
	}
	s.settle(m.row, now)
}
