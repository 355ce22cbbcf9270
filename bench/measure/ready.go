package measure

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"time"
)

const (
	readyWithin = 2 * time.Second // for a server to say anything
	readyEvery  = 250 * time.Millisecond
)

// Ready asks a target for its list of models, and says why it cannot be measured now: it
// cannot be reached, or says that it is not ready. What else it answers (that it has no
// such list, that it wants another key) is for the requests to find out.
func (c *Client) Ready(ctx context.Context, t *Target) error {
	within, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	connected := false
	within = httptrace.WithClientTrace(within, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	at := t.at("/models")
	req, err := http.NewRequestWithContext(within, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "nearside-bench")
	for k, v := range t.Headers {
		req.Header.Set(k, v)
	}
	resp, err := c.to(t).Do(req)
	if err != nil {
		if connected && ctx.Err() == nil && within.Err() != nil {
			return nil // at work on something else, as a server of one request at a time may be
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, refusalMax))
	if resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented {
		return fmt.Errorf("%s answers %s", at, resp.Status)
	}
	return nil
}

// WaitReady waits for a target for so long, and returns what Ready last said. Each time
// it says something it is told.
func (c *Client) WaitReady(ctx context.Context, t *Target, within time.Duration, tell func(error)) error {
	end := time.Now().Add(within)
	for {
		err := c.Ready(ctx, t)
		if err == nil || ctx.Err() != nil || !time.Now().Before(end) {
			return err
		}
		if tell != nil {
			tell(err)
		}
		timer := time.NewTimer(min(readyEvery, time.Until(end)))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}
