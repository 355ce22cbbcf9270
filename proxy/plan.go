package proxy

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/proxy/access"
	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// Snapshot is one immutable configuration. An exchange loads it once and keeps
// it to its end.
type Snapshot struct {
	Config   Config
	Catalog  *catalog.Catalog
	Backends []upstream.Config
	Digest   string // of the configuration it was made from
	Shown    Shown  // that configuration
	// States holds what discovery last saw of providers, by id. It is shown, and
	// decides which near model is ready where no default is configured.
	States map[string]BackendState

	targets sync.Map // *catalog.Model → *target
	// Far models with a price, kept by priced: of proxy.ledger.compareWith and of the
	// default chain.
	compared, usual atomic.Pointer[price]
	live            *upstream.States // how they are since; nil before Apply
}

// EndpointSeen is what was last seen of one endpoint of a provider.
type EndpointSeen struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Detail string `json:"detail,omitempty"`
	Slots  int    `json:"slots,omitempty"` // that it says it has
	Late   bool   `json:"-"`               // it did not answer in time
}

// Shaping returns opt with what this configuration says of translations.
func (s *Snapshot) Shaping(opt shaping.Options) shaping.Options {
	opt.SystemMessages = s.Config.Responses.SystemMessages
	opt.Lean = s.Config.Lean
	opt.UnsupportedImages = s.Config.Inputs.UnsupportedImages
	return opt
}

// Ready says whether a model can be asked as far as is known: as of now once the
// snapshot is in force, as of the last look before that.
func (s *Snapshot) Ready(m *catalog.Model) bool {
	if m.Unavailable != "" || m.Provider.Unavailable != "" {
		return false
	}
	state := ""
	if s.live != nil {
		state, _ = s.live.Of(m.Provider.ID)
	} else if st, ok := s.States[m.Provider.ID]; ok {
		state = st.State
	}
	switch state {
	case upstream.StateFailing, upstream.StateMisconfigured, upstream.StateUnreachable:
		return false
	}
	return true
}

// noModel says why default means nothing: no near provider lists a model.
func (s *Snapshot) noModel() string {
	var seen []string
	for id, st := range s.States {
		text := id + " is " + st.State
		if st.Detail != "" {
			text += " (" + st.Detail + ")"
		}
		seen = append(seen, text)
	}
	for _, p := range s.Catalog.Providers {
		if p.Near && p.Source == catalog.FromConfig && len(p.Models) == 0 {
			seen = append(seen, "models.providers."+p.ID+".models names none")
		}
	}
	sort.Strings(seen)
	text := "no model is configured or found for default: set agents.defaults.model, or start a model server"
	if len(seen) > 0 {
		text += "; " + strings.Join(seen, ", ")
	}
	return text
}

// target is one model that may be tried, with all that does not change while
// its snapshot lives.
type target struct {
	model      *catalog.Model
	ref        string
	name       shaping.Name // the ref, as answers have it
	route      string       // near or far
	region     string       // its label; empty for none
	pinned     bool         // by params.extra_body
	backend    *upstream.Backend
	backendErr error
	breaker    *breaker.Breaker
	provider   *breaker.Breaker
	lines      []byte            // the model's own header lines
	keys       *upstream.Keyring // nil where none is sent
	cool       *atomic.Int64
	gauge      *gauge
	line       *line           // the queue of its provider; nil where as many are sent as come
	berth      *berth          // of a place, or of the only one: its slots
	state      *upstream.Model // how it is, and what was learned of it by asking
	window     catalog.Window
	windowWarn string
	windowBad  string
	simulated  bool
	refText    []byte // the ref as headers have it, and what they say when it was asked once and served
	okText     []byte
	shapes     [wire.Plain + 1]*shaping.Shape // without what was learned, see target.shape
	shapeErrs  [wire.Plain + 1]error
	known      *knowledge // what the backend taught by refusing
	learned    atomic.Pointer[learnedShapes]

	places []*target          // one for each endpoint of its provider; nil where that has one address
	at     *upstream.Endpoint // of a place
}

// target returns the target of a model. Those of declared models are made once
// a snapshot; those of passed-through ids each time, so that nothing grows.
func (s *Server) target(snap *Snapshot, m *catalog.Model) *target {
	return s.targetFor(snap, m, wire.Chat, wire.Plain)
}

// targetFor is target for requests of some dialects, the first to the last: a
// passed-through id is shaped for no others.
func (s *Server) targetFor(snap *Snapshot, m *catalog.Model, first, last wire.Dialect) *target {
	if t, ok := snap.targets.Load(m); ok {
		return t.(*target)
	}
	ref := m.Ref()
	t := &target{model: m, ref: ref, name: shaping.NameOf(ref), route: "far", region: m.Bounds().Region, pinned: m.Pinned(), lines: upstream.ModelLines(m.Headers), simulated: m.Provider.Source == catalog.FromSim, refText: appendHeaderText(nil, ref)}
	t.okText = append(appendHeaderText(nil, ref), "=ok"...)
	if t.backend, t.backendErr = s.pool.Backend(m); m.Near() && (t.backendErr != nil || !t.backend.Leaves()) {
		t.route = "near"
	}
	t.keys = keyring(m, t.backend)
	t.breaker, t.provider = s.pool.Breakers(m)
	t.cool = s.cooldown(ref, m.Declared)
	t.gauge, t.state = s.gauges.of(m), s.pool.Model(m)
	if t.line = s.lines.line(snap, m.Provider.ID, m.BaseURL); t.line != nil {
		t.berth = t.line.at("")
	}
	t.window = m.Window()
	t.windowWarn, t.windowBad = t.window.Verdict()
	t.known = s.learned.of(m, ref)
	opt := snap.Shaping(s.shaping)
	if m.Declared { // kept for all
		first, last = wire.Chat, wire.Plain
	}
	for d := max(first, wire.Chat); d <= last; d++ {
		t.shapes[d], t.shapeErrs[d] = shaping.New(m, d, opt)
	}
	if endpoints := s.pool.Endpoints(m); endpoints != nil {
		s.spread(t, endpoints)
	}
	if m.Declared {
		if was, loaded := snap.targets.LoadOrStore(m, t); loaded {
			return was.(*target)
		}
	}
	return t
}

// says tells whether the configuration sends a header of that name.
func (t *target) says(name string) bool {
	for _, h := range t.model.Headers {
		if strings.EqualFold(h.Name, name) {
			return true
		}
	}
	return t.backend.Sends(name)
}

// cooldown returns the cell that says until when a target is left alone. It
// outlives reloads for declared models, and for others while they cool down.
func (s *Server) cooldown(ref string, declared bool) *atomic.Int64 {
	if c, ok := s.cooldowns.Load(ref); ok {
		return c.(*atomic.Int64)
	}
	c := new(atomic.Int64)
	if declared {
		was, _ := s.cooldowns.LoadOrStore(ref, c)
		return was.(*atomic.Int64)
	}
	return c
}

// passedMax bounds the passed-through ids that are known to cool down.
const passedMax = 1024

// coolDown leaves a target alone until then. Ids that the configuration does
// not list are kept only while they cool down, and not more than passedMax of
// them: clients make them up.
func (s *Server) coolDown(t *target, until time.Time) {
	t.cool.Store(nanos(until))
	if t.model.Declared {
		return
	}
	s.passedMu.Lock()
	defer s.passedMu.Unlock()
	if len(s.passed) >= passedMax {
		now := nanos(time.Now())
		for ref, c := range s.passed {
			if c.Load() <= now {
				delete(s.passed, ref)
				s.cooldowns.Delete(ref)
			}
		}
		if len(s.passed) >= passedMax {
			return
		}
	}
	if s.passed == nil {
		s.passed = map[string]*atomic.Int64{}
	}
	s.passed[t.key()] = t.cool
	s.cooldowns.Store(t.key(), t.cool)
}

// skip says why a step of a plan is not tried.
type skip uint8

const (
	skipNot         skip = iota
	skipUnavailable      // no key, an api that is not spoken, a bad address
	skipDialect          // the backend speaks another dialect
	skipWindow           // the model's window is too small to be of use
	skipInput            // the model does not read what the request holds
	skipRemote           // the backend wants images in the request, and none are fetched
	skipContext          // this request does not fit
	skipOpen             // its breaker is open
	skipCooling          // the backend asked to be left alone
	skipRefused          // the backend refused our credential
	skipBilling          // the account has no credit
	skipNearOnly         // it is far, and the request must not leave
	skipRegion           // it is in a region that may not be asked
	skipOffline          // it is far, and this machine's own network is down
	skipPaused           // an operator has paused it
	skipOverflow         // it is far, and a near one does not answer for a reason that is none to leave
	skipBudget           // it has a price, and the key's money is spent
	skipBound            // proxy.fallback.targets
)

// Step is one target of a plan with the reason for its place or its exclusion.
type Step struct {
	target *target
	skip   skip
	Ref    string    `json:"ref"`
	Route  string    `json:"route"`
	Skip   bool      `json:"skip"`
	Reason string    `json:"reason"`
	Size   Size      `json:"size,omitzero"`
	Queue  string    `json:"queue,omitempty"` // how many are sent there at once, and wait; not of an exchange's plan
	until  time.Time // open or cooling until
	err    error
	kind   string              // of input that the model does not read
	window *upstream.KeyWindow // in which all keys of its provider are left alone
	probes probing             // and it is tried all the same
	spare  bool                // or may be, see exchange.mayTry
	probed bool                // it was
	soft   string              // why it is skipped as long as another can be tried; empty otherwise
	behind bool                // it is far and stands behind a near one
	done   bool                // a hedge was begun at it, or it was passed on the way there
}

// Size is what is thought of a prompt and its answer at one target.
type Size struct {
	Prompt int     `json:"prompt"`          // estimated tokens
	Least  int     `json:"least"`           // that it comes to at the least
	Ratio  float64 `json:"ratio,omitempty"` // tokens for each four bytes, learned; 0 when nothing was
	Seen   int     `json:"seen,omitempty"`  // reports of usage it was learned from
	Window int     `json:"window,omitempty"`
	From   string  `json:"windowFrom,omitempty"` // who says the window
	Room   int     `json:"room,omitempty"`       // for the answer; 0 when the window is not known
}

// Plan is what an exchange will try, in order.
type Plan struct {
	Requested string   `json:"requested"`
	Name      string   `json:"name"`
	Via       []string `json:"via,omitempty"`
	Strict    bool     `json:"strict"`
	Steps     []Step   `json:"steps"`

	policy   catalog.Policy
	grant    *access.Grant // of the client's key; nil for none
	nearOnly string        // who says that the request must not leave; empty when it may

	none string // why there are no steps
	hint string // what would make an answer of one of which none can be tried
}

// ForAnswer is the size for shaping.
func (z Size) ForAnswer() shaping.Room {
	return shaping.Room{Left: z.Room, Prompt: z.Prompt, Window: z.Window, From: z.From}
}

// request is what a plan must know of a request.
type request struct {
	x        *exchange // nil for a plan that nobody carries out
	model    string
	fallback string
	dialect  wire.Dialect
	size     catalog.Prompt
	media    shaping.Media
	body     []byte         // where size is said: for what not every model is sent
	env      *wire.Envelope // its scan
	output   int            // max tokens asked for
	firm     bool           // it can be made shorter: what may not fit is not tried
	narrow   narrowing
	inside   bool // nothing of it may leave, as the plan found
}

// size says how a prompt of a dialect stands to the target.
func (t *target) size(p catalog.Prompt, body []byte, env *wire.Envelope, d wire.Dialect) (catalog.Estimate, Size) {
	if env != nil && t.shapes[d] != nil {
		p.TextBytes = max(0, p.TextBytes-t.shape(d).LeftOut(body, env))
	}
	g, w := t.gauge.load(), &t.window
	e := g.Estimate(p)
	return e, Size{Prompt: e.Tokens, Least: e.Least, Ratio: g.Mean, Seen: g.Seen, Window: w.Effective, From: w.Source, Room: w.Room(e)}
}

// plan fills p for a request. It only looks: no ticket is taken and nothing is
// sent.
func (s *Server) plan(snap *Snapshot, r request, now time.Time, p *Plan) error {
	res, err := snap.meaning(&r)
	if err != nil {
		return err
	}
	p.Requested, p.Name, p.Via, p.Strict = res.Requested, res.Name, res.Via, res.Strict
	p.Steps, p.none, p.hint = p.Steps[:0], "", ""
	p.bind(snap, res, &r.narrow)
	r.inside = p.policy.NearOnly
	if len(res.Models) == 0 {
		p.none = snap.noModel()
	}
	tried, halt, ahead := 0, "", front{}
	models, kept := r.x.homeFirst(res.Models)
	for i, m := range models {
		t := s.targetFor(snap, m, r.dialect, r.dialect)
		st := Step{target: t, Ref: t.ref, Route: t.route}
		if p.admits(&st, &r) {
			s.consider(snap, &st, &r, now)
		}
		if st.window != nil {
			st.probe(p.Steps, m == res.Models[0], len(models) == 1, now)
		}
		bar := ahead.bar(&st)
		switch {
		case halt != "":
			st.skip, st.kind, st.soft, st.Reason = skipInput, catalog.InputImage, "", halt
		case st.skip == skipNot && bar != "":
			st.skip, st.Reason = skipOverflow, bar
		case st.skip == skipNot:
			left := st.Reason
			if m == res.Models[0] {
				i = 0
			} else {
				i = max(i, 1)
			}
			if accept(snap, &st, i, &tried); st.skip == skipNot && m == kept {
				st.Reason = keptReason
			}
			if st.probes != probeNot && st.skip == skipNot {
				st.Reason += "; tried all the same: " + left
			}
		case st.skip == skipInput && st.kind == catalog.InputImage && tried == 0 && t.shapes[r.dialect].UnsupportedImages() == shaping.ImagesError:
			halt = "no other is asked in the place of " + t.ref + " (unsupportedImages: error)"
		}
		st.Skip = st.skip != skipNot
		ahead.add(&st, &p.policy)
		p.Steps = append(p.Steps, st)
	}
	if tried == 0 { // of none it is sure: then of those that may
		p.relent(snap, r, &tried)
	}
	if tried == 0 {
		p.hint = aliasHint(snap, *res)
	}
	return nil
}

// relent makes those steps ones that are tried that were only thought to be no
// use, and the far ones behind them whose way that opens.
func (p *Plan) relent(snap *Snapshot, r request, tried *int) {
	ahead := front{}
	for i := range p.Steps {
		st := &p.Steps[i]
		bar := ahead.bar(st)
		if may := st.soft != "" && !(r.firm && st.skip == skipContext); bar == "" && (may || st.skip == skipOverflow) {
			st.skip = skipNot
			if accept(snap, st, i, tried); st.skip == skipNot && may {
				st.Reason += "; " + st.soft
			}
			st.Skip = st.skip != skipNot
		}
		ahead.add(st, &p.policy)
	}
}

// accept makes a step one that is tried, as long as there are not too many.
func accept(snap *Snapshot, st *Step, i int, tried *int) {
	switch *tried++; {
	case *tried > snap.Config.Fallback.Targets:
		st.skip, st.Reason = skipBound, fmt.Sprintf("at most %d targets are tried (proxy.fallback.targets)", snap.Config.Fallback.Targets)
	case i == 0:
		st.Reason = "primary"
	default:
		st.Reason = "fallback"
	}
}

// aliasHint says how a name that clients insist on is answered by the models
// that are there, when what it means is a built-in provider's that waits for a
// key.
func aliasHint(snap *Snapshot, res catalog.Resolution) string {
	name := strings.TrimSpace(res.Requested)
	if len(res.Models) != 1 || res.Models[0].Provider.Source != catalog.FromBuiltin || strings.EqualFold(name, catalog.DefaultName) {
		return ""
	}
	if own, err := snap.Catalog.Resolve(catalog.DefaultName, catalog.ResolveOptions{Ready: snap.Ready}); err != nil || len(own.Models) == 0 {
		return ""
	}
	if strings.HasPrefix(strings.ToLower(name), "gpt-") {
		name = "gpt-*"
	}
	return fmt.Sprintf("; to have your own models answer, set proxy.aliases: {%q: %q}", name, catalog.DefaultName)
}

// consider says why a target is not tried, if there is a reason.
func (s *Server) consider(snap *Snapshot, st *Step, r *request, now time.Time) {
	t := st.target
	m := t.model
	if name, p := s.pauses.of(t); p != nil {
		st.skip, st.Reason = skipPaused, pausedReason(name, p)
		return
	}
	switch {
	case m.Provider.Unavailable != "":
		st.skip, st.Reason = skipUnavailable, m.Provider.Unavailable
	case m.Unavailable != "":
		st.skip, st.Reason = skipUnavailable, m.Unavailable
	case t.backendErr != nil:
		st.skip, st.Reason = skipUnavailable, t.backendErr.Error()
	case t.drains() != "":
		st.skip, st.Reason = skipUnavailable, t.drains()
	case t.shapeErrs[r.dialect] != nil:
		st.skip, st.err, st.Reason = skipDialect, t.shapeErrs[r.dialect], t.shapeErrs[r.dialect].Error()
	case t.windowBad != "":
		st.skip, st.Reason = skipWindow, t.windowBad
	default:
		s.weighInput(snap, st, r)
	}
	if st.skip != skipNot && st.soft == "" {
		return
	}
	if t.route == "far" {
		if until := s.network.down(now); !until.IsZero() {
			st.skip, st.soft, st.until = skipOffline, "", until
			st.Reason = s.offlineReason(until)
			return
		}
	}
	defer t.allOut(st, now)
	at := t.stand(now)
	for _, b := range [...]*breaker.Breaker{at.provider, at.breaker} {
		if status := b.Peek(); !status.Callable(now) {
			st.skip, st.soft, st.until = skipOpen, "", status.Until
			st.Reason = fmt.Sprintf("its breaker is open (%s) until %s", status.Cause, status.Until.UTC().Format(time.RFC3339))
			return
		}
	}
	if t.keys != nil && !t.keys.Calm() && st.cools(now) {
		return
	}
	if until := at.cool.Load(); until > nanos(now) {
		st.skip, st.soft, st.until = skipCooling, "", moment(until)
		st.Reason = "the backend asked to be left alone until " + st.until.UTC().Format(time.RFC3339)
		return
	}
	if until := s.refusedUntil(snap, t, now); !until.IsZero() {
		st.skip, st.soft = skipRefused, ""
		st.Reason = fmt.Sprintf("the backend refused our credential (models.providers.%s.apiKey); it is asked again after %s, or when the configuration is loaded again",
			m.Provider.ID, until.UTC().Format(time.RFC3339))
	}
}

// noTarget is the error of a plan of which nothing could be tried.
func (p *Plan) noTarget(now time.Time) (wire.Error, time.Duration) {
	e, wait := p.nothing(now)
	p.keptNear(&e)
	return e, wait
}

func (p *Plan) nothing(now time.Time) (wire.Error, time.Duration) {
	var reasons []string
	var first [skipBound + 1]*Step
	var until time.Time
	for i := range p.Steps {
		st := &p.Steps[i]
		if !st.Skip {
			continue
		}
		reasons = append(reasons, st.Ref+": "+st.Reason)
		if first[st.skip] == nil {
			first[st.skip] = st
		}
		if !st.until.IsZero() && (until.IsZero() || st.until.Before(until)) {
			until = st.until
		}
	}
	all := strings.Join(reasons, "; ")
	wait := max(retryAfterMin, until.Sub(now))
	switch {
	case first[skipOpen] != nil:
		return wire.Error{Status: 503, Type: "server_error", Code: "no_target_available", Message: "no target can be tried now: " + all}, wait
	case first[skipCooling] != nil:
		return wire.Error{Status: 429, Type: "rate_limit_exceeded", Code: "rate_limit_exceeded",
			Message: fmt.Sprintf("no target can be tried now: %s. Please try again in %ds", all, int(wait.Seconds()+0.999))}, wait
	case first[skipOffline] != nil:
		return wire.Error{Status: 503, Type: "server_error", Code: codeNetwork, Message: "no target can be tried now: " + all}, wait
	case first[skipPaused] != nil:
		return wire.Error{Status: 503, Type: "server_error", Code: "target_paused", Message: "no target can be tried now: " + all}, retryAfterMin
	case first[skipBilling] != nil:
		return wire.Error{Status: 429, Type: "insufficient_quota", Code: "insufficient_quota", Message: "no target can be tried now: " + all}, wait
	case first[skipRefused] != nil:
		return wire.Error{Status: 502, Type: "server_error", Code: "upstream_auth", Message: "no target can be tried now: " + all}, 0
	case first[skipInput] != nil:
		return wire.Error{Status: 400, Type: "invalid_request_error", Code: "unsupported_" + first[skipInput].kind + "_input", Param: "messages", Message: all}, 0
	case first[skipRemote] != nil:
		return wire.Error{Status: 400, Type: "invalid_request_error", Code: "unsupported_image_url", Param: "messages", Message: all}, 0
	case first[skipContext] != nil:
		return wire.Error{Status: 400, Type: "invalid_request_error", Code: "context_length_exceeded", Param: "messages", Message: all}, 0
	case first[skipDialect] != nil:
		if e, ok := first[skipDialect].err.(*wire.Error); ok && len(p.Steps) == 1 {
			return *e, 0
		}
		return wire.Error{Status: 400, Type: "invalid_request_error", Code: "unsupported_dialect", Param: "model", Message: all}, 0
	case len(reasons) == 0:
		return wire.Error{Status: 404, Type: "invalid_request_error", Code: "model_not_found", Param: "model", Message: p.none}, 0
	}
	return wire.Error{Status: 503, Type: "server_error", Code: "model_unavailable", Param: "model", Message: "no target can be tried: " + all + p.hint}, 0
}
