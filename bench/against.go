package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

// Other is another proxy that stands in front of the same backend and joins the rounds.
type Other struct {
	Name   string
	URL    string   // its base URL: http://127.0.0.1:4000/v1
	Prefix string   // before the backend's names of models
	Header []string // further lines of a request's head
	PID    int      // of its process, when its processor time and memory are to be counted; 0 for not
}

// ParseOther reads NAME=URL or NAME=URL#PREFIX.
func ParseOther(text string) (Other, error) {
	name, at, ok := strings.Cut(text, "=")
	if !ok || name == "" || strings.ContainsAny(name, ":/") {
		return Other{}, fmt.Errorf("%q is no NAME=URL", text)
	}
	at, prefix, _ := strings.Cut(at, "#")
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.RawQuery != "" {
		return Other{}, fmt.Errorf("%q: the address must be like http://127.0.0.1:4000/v1 (without TLS, which would be measured too)", text)
	}
	switch name {
	case "backend", "bare", "nearside":
		return Other{}, fmt.Errorf("%q: %s is a name of this report's own", text, name)
	}
	return Other{Name: name, URL: strings.TrimRight(at, "/"), Prefix: prefix}, nil
}

// peer is what the runner asks.
func (o *Other) peer() *peer {
	u, _ := url.Parse(o.URL) // it was looked at
	p := &peer{name: o.Name, other: o, pid: o.PID, addrs: map[string]string{}, path: u.Path + "/chat/completions"}
	addr := u.Host
	if u.Port() == "" {
		addr += ":80"
	}
	p.addrs[backendAll] = addr
	return p
}

// join waits until the others answer out of our backend.
func (r *runner) join(ctx context.Context) error {
	if len(r.opt.Against) == 0 {
		return nil
	}
	var names []string
	for i := range r.opt.Against {
		names = append(names, r.opt.Against[i].Name)
	}
	if r.opt.Progress != nil {
		fmt.Fprintf(r.opt.Progress, "the backend listens at http://%s/v1 (models %s); it is to answer through %s\n", r.direct.addrs[backendAll], strings.Join(sharedModels(), ", "), strings.Join(names, ", "))
	}
	end := time.Now().Add(r.opt.Wait)
	for i := range r.opt.Against {
		p := r.opt.Against[i].peer()
		for {
			err := r.try(p)
			if err == nil {
				break
			}
			if !time.Now().Before(end) {
				return fmt.Errorf("%s (%s) does not answer out of the backend at http://%s/v1: %w; configure it so and fix the backend's address with --backend-listen, or have it waited for with --wait", p.name, p.other.URL, r.direct.addrs[backendAll], err)
			}
			if err := pause(ctx, tryEvery); err != nil {
				return err
			}
		}
		r.others = append(r.others, p)
	}
	return nil
}

// tryEvery is how often a proxy is asked that does not answer yet.
const tryEvery = 100 * time.Millisecond

// try asks a peer once for a stream. That its answer is our backend's shows in the
// number of its tokens.
func (r *runner) try(p *peer) error {
	c, err := dial(p.at(backendAll))
	if err != nil {
		return err
	}
	defer c.close()
	t, err := c.timed(r.ask(p, modelStream, 1<<10, true), true)
	if errors.Is(err, io.EOF) {
		err = errors.New("it closed the connection")
	}
	if err == nil && len(t.gaps) == 0 {
		err = errors.New("its stream came in one piece")
	}
	return err
}
