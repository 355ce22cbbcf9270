package config

import "nearside/proxy"

// fallback reads proxy.fallback.
func (l *loader) fallback(n node, f *proxy.Fallback) {
	n.setWhole("targets", &f.Targets)
	n.setWhole("continueBytes", &f.ContinueBytes)
	n.setWhole("retries", &f.Retries)
	n.setSpan("backoffMin", &f.BackoffMin)
	n.setSpan("backoffMax", &f.BackoffMax)
	if f.BackoffMin > f.BackoffMax {
		l.at(n.pos(), n.path, "backoffMax (%v) is less than backoffMin (%v)", f.BackoffMax, f.BackoffMin)
	}
	n.setWhole("prefilled", &f.Prefilled)
	n.setSpan("worked", &f.Worked)
	n.setSpan("least", &f.Least)
	n.setNumber("retryShare", &f.RetryShare)
	if at := n.get("retryShare"); at.there() && f.RetryShare > 1 {
		l.at(at.pos(), at.path, "is a share: at most 1")
	}
	n.setWhole("retryMin", &f.RetryMin)
	n.setSpan("retryWindow", &f.RetryWindow)
}
