package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// probeAnswerTime is what a probe gives a server to answer once connected.
const probeAnswerTime = 3 * time.Second

var errProbeHTML = errors.New("the answer is a web page")

// ProbeModels asks for the model list and returns nil when the server is there
// again: any answer below 500, short of a web page in place of a list. It costs
// no tokens, so it says nothing about completions; it is for breakers that
// connect-level faults opened. Errors are *Error values. It is bounded by the
// provider's connect deadlines and 3 s for the answer.
func ProbeModels(ctx context.Context, cfg Config, d Dialer) error {
	a, err := newAsker(cfg, d)
	if err != nil {
		return &Error{Kind: KindUnreachable, Phase: PhaseConnect, Backend: cfg.ID, Err: err}
	}
	defer a.close()
	limits := DefaultDeadlines(cfg.Near)
	if cfg.Deadlines.Connect > 0 {
		limits.Connect = cfg.Deadlines.Connect
	}
	if cfg.Deadlines.TLS > 0 {
		limits.TLS = cfg.Deadlines.TLS
	}
	ctx, cancel := context.WithTimeout(ctx, limits.Connect+limits.TLS+probeAnswerTime)
	defer cancel()
	r, err := a.get(ctx, a.modelsPath())
	switch {
	case err != nil:
		return err
	case r.status >= 500:
		return &Error{Kind: KindMalformed, Phase: PhaseHeaders, Backend: cfg.ID, Err: fmt.Errorf("the model list answers %d %s", r.status, http.StatusText(r.status))}
	case r.status == http.StatusOK && r.html():
		return &Error{Kind: KindMalformed, Phase: PhaseContent, Backend: cfg.ID, Err: errProbeHTML}
	}
	return nil
}
