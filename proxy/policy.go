package proxy

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/valyala/fasthttp"

	"nearside/catalog"
	"nearside/proxy/access"
	"nearside/proxy/fault"
	"nearside/shaping/wire"
)

// overflow is why a near target does not answer a request, in the words in which
// a policy says whether a far one may.
type overflow uint8

const (
	overflowNone overflow = iota
	overflowFailure
	overflowLoading
	overflowQueue
	overflowContext
	overflowAbility
)

func (o overflow) name() string {
	return [...]string{"", "failure", "loading", "queue", "context", "ability"}[o]
}

// allowed says whether a policy lets a request leave for that reason.
func (o overflow) allowed(p *catalog.Overflow) bool {
	return [...]bool{true, p.Failure, p.Loading, p.Queue, p.Context, p.Ability}[o]
}

// overflow is what it means for the targets behind a near one that it is skipped.
func (k skip) overflow() overflow {
	switch k {
	case skipNot, skipRegion, skipBudget, skipBound:
		return overflowNone
	case skipDialect, skipInput, skipRemote:
		return overflowAbility
	case skipWindow, skipContext:
		return overflowContext
	case skipCooling:
		return overflowQueue
	}
	return overflowFailure
}

// overflow is what it means for the targets behind a near one that an attempt at
// it ended so.
func (o *outcome) overflow() overflow {
	switch o.reason {
	case fault.Loading:
		return overflowLoading
	case fault.Saturated, fault.RateLimit, fault.Overloaded, fault.Full:
		return overflowQueue
	case fault.ContextOverflow:
		return overflowContext
	case fault.NoEndpoint, fault.NotSupported:
		return overflowAbility
	case fault.HTML: // as servers answer that swap models
		if o.reply.Status == 503 {
			return overflowLoading
		}
	}
	return overflowFailure
}

// narrowing is what a request itself takes from the policy of its chain.
type narrowing struct {
	grant    *access.Grant // of the key that it presents; nil for none
	nearOnly string        // who says that it must not leave; empty for nobody
	regions  []string      // that it may go to; empty for all
}

// narrowingOf reads the headers of a request. A word that is not understood is
// refused: whoever writes it does not want it to be passed over.
func narrowingOf(h *fasthttp.RequestHeader) (n narrowing, e *wire.Error) {
	if h.Peek("X-Nearside-Near-Only") != nil {
		for _, v := range h.PeekAll("X-Nearside-Near-Only") {
			switch strings.ToLower(string(bytes.TrimSpace(v))) {
			case "true", "1":
				n.nearOnly = "x-nearside-near-only"
			case "false", "0":
			default:
				return n, badRequest("invalid_value", "", "x-nearside-near-only is true or false")
			}
		}
	}
	if h.Peek("X-Nearside-Route") != nil {
		for _, v := range h.PeekAll("X-Nearside-Route") {
			if !strings.EqualFold(string(bytes.TrimSpace(v)), "near") {
				return n, badRequest("invalid_value", "", "x-nearside-route of a request is near, or absent")
			}
			n.nearOnly = "x-nearside-route"
		}
	}
	if h.Peek("X-Nearside-Regions") != nil {
		for _, v := range h.PeekAll("X-Nearside-Regions") {
			if n.regions, e = regionsSaid(n.regions, string(v)); e != nil {
				return n, e
			}
		}
	}
	return n, nil
}

// narrowing is what a request would take from its chain's policy.
func (r *ExplainRequest) narrowing(cfg *Config) (n narrowing, err error) {
	if r.Header != nil {
		var e *wire.Error
		if n, e = narrowingOf(r.Header); e != nil {
			return n, e
		}
		if cfg.Keys.Required() {
			n.grant = presented(r.Header, cfg.Keys)
		}
	}
	if r.NearOnly {
		n.nearOnly = "x-nearside-near-only"
	}
	if r.Regions != "" {
		var e *wire.Error
		if n.regions, e = regionsSaid(n.regions, r.Regions); e != nil {
			return n, e
		}
	}
	if r.Key == "" {
		return n, nil
	}
	if n.grant = cfg.Keys.Grant(r.Key); n.grant == nil {
		n.grant = cfg.Keys.Called(r.Key)
	}
	if n.grant == nil {
		return n, badRequest("invalid_value", "", fmt.Sprintf("there is no key with the id or name %q (nearside keys list)", r.Key))
	}
	return n, nil
}

// PlanPolicy is the policy that is in force for a plan, for people.
type PlanPolicy struct {
	NearOnly string   `json:"nearOnly,omitempty"` // who says that the request must not leave
	Regions  []string `json:"regions,omitempty"`  // that may be asked; all when there are none
	NoRegion bool     `json:"noRegion,omitempty"` // none is left
	Overflow []string `json:"overflow"`           // for what a far target may answer in the place of a near one
	Hedge    string   `json:"hedge,omitempty"`    // when the next target is started beside the first; empty for never
	Continue bool     `json:"continueStreams,omitempty"`
	Key      string   `json:"key,omitempty"`    // of the client
	Limits   []string `json:"limits,omitempty"` // of that key
}

// Policy returns the policy that is in force for the plan.
func (p *Plan) Policy() PlanPolicy {
	v := PlanPolicy{NearOnly: p.nearOnly, Regions: p.policy.Regions, NoRegion: p.policy.NoRegion, Overflow: []string{}}
	for o := overflowFailure; o <= overflowAbility && p.nearOnly == ""; o++ {
		if o.allowed(&p.policy.Overflow) {
			v.Overflow = append(v.Overflow, o.name())
		}
	}
	switch h := &p.policy.Hedge; {
	case !h.Enabled:
	case h.After > 0:
		v.Hedge = "after " + h.After.String()
	default:
		v.Hedge = fmt.Sprintf("after the usual time (percentile %v)", h.Percentile)
	}
	v.Continue = p.policy.Continue
	if g := p.grant; g != nil {
		v.Key, v.Limits = g.Name(), g.Limits.Words()
	}
	return v
}

// String says it in a line.
func (v PlanPolicy) String() string {
	var text string
	switch {
	case v.NearOnly != "":
		text = "near only (" + v.NearOnly + ")"
	case len(v.Overflow) == 0:
		text = "from near to far for no reason"
	default:
		text = "from near to far on " + strings.Join(v.Overflow, ", ")
	}
	switch {
	case v.NoRegion:
		text += "; no region is left that may be asked"
	case len(v.Regions) > 0:
		text += "; regions " + strings.Join(v.Regions, ", ")
	}
	if v.Hedge != "" {
		text += "; hedged " + v.Hedge
	}
	if v.Continue {
		text += "; broken streams are gone on with"
	}
	if v.Key != "" {
		text += "; key " + v.Key
		if len(v.Limits) > 0 {
			text += " (" + strings.Join(v.Limits, ", ") + ")"
		}
	}
	return text
}

// regionsMax bounds the regions that a request may name.
const regionsMax = 32

// regionsSaid appends the labels of a text, which commas separate.
func regionsSaid(to []string, text string) ([]string, *wire.Error) {
	for label := range strings.SplitSeq(text, ",") {
		label = catalog.Region(label)
		if label == "" {
			return to, badRequest("invalid_value", "", "x-nearside-regions names the regions that may be asked, separated by commas")
		}
		if to = append(to, label); len(to) > regionsMax {
			return to, badRequest("invalid_value", "", fmt.Sprintf("x-nearside-regions names more than %d regions", regionsMax))
		}
	}
	return to, nil
}

// bind settles the policy that is in force: that of the chain, or of all, and
// what model, key and request take from it.
func (p *Plan) bind(snap *Snapshot, res *catalog.Resolution, by *narrowing) {
	p.policy, p.nearOnly = snap.Config.Policy, "proxy.policy.nearOnly"
	if res.Policy != nil {
		p.policy, p.nearOnly = *res.Policy, "its chain's nearOnly"
	}
	if !p.policy.NearOnly {
		p.nearOnly = ""
	}
	for _, q := range res.Narrow {
		p.narrow(q, "nearOnly of a chain in x-nearside-fallback")
	}
	if len(res.Models) > 0 {
		if m := res.Models[0]; len(m.Provider.Bounds) > 0 && m.Bounds().NearOnly && p.nearOnly == "" {
			p.policy.NearOnly, p.nearOnly = true, "proxy.models["+m.Ref()+"].nearOnly"
		}
	}
	if p.grant = by.grant; p.grant != nil {
		g := p.grant
		p.narrow(&g.Policy, "nearOnly of the key "+g.ID)
	}
	if by.nearOnly != "" {
		p.policy.NearOnly = true
		if p.nearOnly == "" {
			p.nearOnly = by.nearOnly
		}
	}
	if len(by.regions) > 0 {
		p.policy = p.policy.Within(by.regions)
	}
}

// narrow takes what a policy does not allow from that of the plan.
func (p *Plan) narrow(by *catalog.Policy, from string) {
	if by.NearOnly && p.nearOnly == "" {
		p.nearOnly = from
	}
	p.policy = p.policy.Narrow(by)
}

// admits says whether the policy lets a step's target be asked at all, and
// otherwise why not.
func (p *Plan) admits(st *Step, r *request) bool {
	far, d := st.target.route == "far", r.dialect
	switch {
	case far && p.policy.NearOnly:
		st.skip, st.Reason = skipNearOnly, "it is far, and the request is near only ("+p.nearOnly+")"
	case !p.policy.Allows(st.target.regionFor(d), !far):
		st.skip, st.Reason = skipRegion, regionReason(&p.policy, st.target, d)
	case far && len(p.policy.Regions) > 0 && st.target.strays(r) != "":
		st.skip, st.Reason = skipRegion, fmt.Sprintf("the request's own %s may lead out of its region (%s): leave it out, or pin it in params.extra_body", st.target.strays(r), st.target.region)
	default:
		return true
	}
	return false
}

// strays names the member of a request by which an aggregator may answer from
// elsewhere than the region that is said of its model: with another model, or from
// another place. Empty where there is none, or params.extra_body stands over it.
func (t *target) strays(r *request) string {
	if r.env == nil || t.pinned || t.model.Provider.Kind != catalog.KindOpenRouter || !t.model.OwnRegion() {
		return ""
	}
	for _, name := range [...]string{"models", "provider"} {
		if _, ok := r.env.Field(r.body, name); ok {
			return name
		}
	}
	return ""
}

// regionFor is the target's region for requests of a dialect: what
// params.extra_body pins holds where it is sent.
func (t *target) regionFor(d wire.Dialect) string {
	if t.pinned && t.shapes[d] != nil && t.shapes[d].Backend() != wire.Chat {
		return ""
	}
	return t.region
}

func regionReason(p *catalog.Policy, t *target, d wire.Dialect) string {
	where := "no region is said of it (proxy.providers." + t.model.Provider.ID + ".region)"
	switch region := t.regionFor(d); {
	case region != "":
		where = "its region is " + region
	case t.region != "":
		where = "its region (" + t.region + ") is what params.extra_body pins, which is sent with chat requests only"
	}
	if p.NoRegion {
		return where + ", and no region is left of those that its chain, its key and the request allow"
	}
	return where + ", and only " + strings.Join(p.Regions, ", ") + " may be asked"
}

// front is what stands in front of a step of a plan.
type front struct {
	near bool   // a near target
	veto string // why one of them lets no request pass to far targets
}

// bar says why a step may not be tried on account of what stands in front of it;
// empty when it may.
func (f *front) bar(st *Step) string {
	st.behind = f.near && st.target.route == "far"
	if !st.behind {
		return ""
	}
	return f.veto
}

// add puts a step, whose place in the plan is settled, in front of those to come.
func (f *front) add(st *Step, p *catalog.Policy) {
	if st.target.route == "far" || st.skip == skipRegion {
		return
	}
	f.near = true
	if why := st.skip.overflow(); !why.allowed(&p.Overflow) && f.veto == "" {
		f.veto = veto(st.Ref, st.skip.name(), why)
	}
}

// veto says why a request may not leave.
func veto(ref, outcome string, why overflow) string {
	return "it is far, and overflow." + why.name() + " is false: " + ref + " is not answering (" + outcome + ")"
}

// leaving is how it stands with an exchange going from near to far.
type leaving struct {
	why  overflow // why the last near target did not answer
	veto string   // why no far target behind them may be tried; empty when one may

	stranded bool // a far target could not be reached for want of a way out
	scout    bool // it finds out whether there is one again
}

// miss notes that a near target does not answer the exchange.
func (x *exchange) miss(t *target, outcome string, why overflow) {
	if t.route == "far" || why == overflowNone {
		return
	}
	x.leaving.why = why
	if !why.allowed(&x.plan.policy.Overflow) && x.leaving.veto == "" {
		x.leaving.veto = veto(t.ref, outcome, why)
	}
}

// barred says why a step of the plan may not be tried now, after how the near
// targets in front of it have ended; empty when it may.
func (x *exchange) barred(st *Step) string {
	if !st.behind {
		return ""
	}
	return x.leaving.veto
}

// passStep notes a step that is not tried.
func (x *exchange) passStep(st *Step) {
	if st.done {
		return
	}
	name, reason := st.skip.name(), st.Reason
	if !st.Skip {
		name, reason = skipOverflow.name(), x.barred(st)
	} else if st.target.route != "far" {
		x.miss(st.target, name, st.skip.overflow())
	}
	x.pass(st.target, name, reason)
}

// outward notes in the receipt that a far target answered, or was tried last, in
// the place of near ones, and why.
func (x *exchange) outward() {
	if x.leaving.why == overflowNone || x.cur.route != "far" {
		return
	}
	r := x.receipt
	r.overflow = x.leaving.why
	b := append([]byte(r.overflow.name()), ';')
	for i := range r.Attempts {
		a := &r.Attempts[i]
		if a.Route == "far" || a.Outcome == skipRegion.name() || again(r.Attempts[i+1:], a.Ref) {
			continue
		}
		if b[len(b)-1] != ';' {
			b = append(b, ',')
		}
		b = appendHeaderText(append(b, ' '), a.Ref)
		b = append(append(b, '='), a.Outcome...)
	}
	r.RouteReason = string(b)
}

// again says whether a target was tried again.
func again(all []Attempt, ref string) bool {
	for i := range all {
		if all[i].Ref == ref {
			return true
		}
	}
	return false
}

// codeNearOnly is the code of what only a far target might have answered.
const codeNearOnly = "near_only"

// keptNear marks the error of a request for which far targets were left out: it
// is not for lack of targets that nobody answers.
func (p *Plan) keptNear(e *wire.Error) {
	if e.Status < 429 {
		return // the request's own fault, or a code that clients act on
	}
	for i := range p.Steps {
		switch st := &p.Steps[i]; {
		case st.skip == skipNearOnly:
			e.Code = codeNearOnly
			return
		case st.skip == skipRegion && e.Code == "model_unavailable":
			e.Code = "region_not_allowed"
		}
	}
}
