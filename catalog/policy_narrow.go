package catalog

import (
	"slices"
	"strings"
)

// Widest returns the policy by which Narrow changes nothing.
func Widest() Policy {
	return Policy{
		Overflow: Overflow{Failure: true, Loading: true, Queue: true, Context: true, Ability: true, LargerContext: true},
		Hedge:    Hedge{Enabled: true},
		Continue: true,
	}
}

// Narrow returns p without what by does not allow: a key or a request takes
// from a policy and adds nothing to it.
func (p Policy) Narrow(by *Policy) Policy {
	p = p.Within(by.Regions)
	p.NoRegion = p.NoRegion || by.NoRegion
	p.NearOnly = p.NearOnly || by.NearOnly
	o, b := &p.Overflow, &by.Overflow
	o.Failure = o.Failure && b.Failure
	o.Loading = o.Loading && b.Loading
	o.Queue = o.Queue && b.Queue
	o.Context = o.Context && b.Context
	o.Ability = o.Ability && b.Ability
	o.LoadingWait = max(o.LoadingWait, b.LoadingWait)
	o.QueueWait = max(o.QueueWait, b.QueueWait)
	o.LargerContext = o.LargerContext && b.LargerContext
	p.Hedge.Enabled = p.Hedge.Enabled && by.Hedge.Enabled
	p.Continue = p.Continue && by.Continue
	return p
}

// Within returns p with those of its regions that are among some; none given
// means all.
func (p Policy) Within(some []string) Policy {
	switch {
	case len(some) == 0 || p.NoRegion:
	case len(p.Regions) == 0:
		p.Regions = some
	default:
		var both []string
		for _, r := range p.Regions {
			if slices.Contains(some, r) {
				both = append(both, r)
			}
		}
		p.Regions, p.NoRegion = both, len(both) == 0
	}
	return p
}

// Allows says whether a target in a region may be asked. What is near and
// carries no label is in the house.
func (p *Policy) Allows(region string, near bool) bool {
	switch {
	case !p.NoRegion && len(p.Regions) == 0:
		return true
	case region == "":
		return near
	}
	return slices.Contains(p.Regions, region)
}

// Region returns a region's label as policies compare it.
func Region(label string) string { return strings.ToLower(strings.TrimSpace(label)) }

// Bounds are what proxy.models says of where a model is and where requests for
// it may go.
type Bounds struct {
	NearOnly bool   // requests for it are asked of near targets only
	Region   string // stands above the provider's
}

// Bounds returns those of the model, with its provider's region where it has
// none of its own. Ids are compared without case, as servers do: a privacy
// setting must not hang on it.
func (m *Model) Bounds() Bounds {
	b := Bounds{}
	if len(m.Provider.Bounds) > 0 {
		b = m.Provider.Bounds[strings.ToLower(m.ID)]
	}
	if b.Region == "" {
		b.Region = m.Provider.Region
	}
	return b
}

// Pinned says whether the model's region is one of its own that an aggregator
// keeps to because params.extra_body says so with each request: it holds only
// where those are sent.
func (m *Model) Pinned() bool {
	return m.OwnRegion() && slices.ContainsFunc(m.Params, func(p Param) bool { return p.Key == "extra_body" || p.Key == "extraBody" })
}

// OwnRegion says whether the region is said of the model, and not of its provider.
func (m *Model) OwnRegion() bool {
	return len(m.Provider.Bounds) > 0 && m.Provider.Bounds[strings.ToLower(m.ID)].Region != ""
}

// Near says whether the model is on the user's own machines: its provider is,
// and so is the address of the model where that is another.
func (m *Model) Near() bool {
	return m.Provider.Near && (m.BaseURL == m.Provider.BaseURL || PlaceOf(m.BaseURL).Near())
}
