package card

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"nearside/bench/measure"
)

// What a server may take to stop for a client that left.
const (
	stopSoon = time.Second
	stopLate = 5 * time.Second
	stopMost = 20 * time.Second // then it is not waited for any more
	stopLook = 10 * time.Millisecond
	stopAt   = 4 // events of the answer that is left
)

// long is a question whose answer takes its time.
func (r *run) long() ([]byte, error) {
	p := measure.Prompt{Messages: user("Write the numbers from one to one thousand as words, one in each line. Leave none out."), Output: 4000, Exact: true, Stream: true}
	return p.Body(r.target)
}

// cancel leaves in the middle of an answer, and looks how soon the server stops: by what
// it says of itself, else by how soon the next request is answered.
func (r *run) cancel(s *section) {
	const name = "a client that leaves"
	body, err := r.long()
	if err != nil {
		s.check(name, 0, err.Error())
		return
	}
	before, source := r.running()
	if source == "" {
		r.cancelByNext(s, name, body)
		return
	}
	during, left := 0, time.Duration(0)
	sample, _ := r.post(r.ctx, r.target, body, measure.Watch{Until: func(events int) bool {
		if events < stopAt {
			return false
		}
		// Some gauges are written once a second.
		for end := r.client.Now() + 2*time.Second; during <= before && r.client.Now() < end && r.ctx.Err() == nil; r.pause(stopLook) {
			during, _ = r.running()
		}
		left = r.client.Now()
		return true
	}})
	switch {
	case left == 0 && !answered(sample):
		s.check(name, 0, string(sample.Kind)+": "+sample.Error)
		return
	case left == 0:
		s.unknown(name, "its answer ends too soon to be left")
		return
	case during <= before: // shows nothing of requests
		r.cancelByNext(s, name, body)
		return
	}
	for r.ctx.Err() == nil {
		if n, _ := r.running(); n <= before {
			r.stopped(s, name, r.client.Now()-left, "as "+source+" says")
			return
		}
		if r.client.Now()-left > stopMost {
			s.check(name, 0, fmt.Sprintf("still at work after %v, as %s says", stopMost, source))
			return
		}
		r.pause(stopLook)
	}
}

func (r *run) stopped(s *section, name string, took time.Duration, how string) {
	note := fmt.Sprintf("stopped after %d ms, %s", max(0, took).Milliseconds(), how)
	switch {
	case took <= stopSoon:
		s.check(name, 1, note)
	case took <= stopLate:
		s.check(name, 0.5, note)
	default:
		s.check(name, 0, note)
	}
}

func (r *run) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.ctx.Done():
	}
}

// running is how many requests a server says are at work, and where it says so; "" where
// it does not.
func (r *run) running() (n int, source string) {
	root := strings.TrimSuffix(strings.TrimRight(r.target.BaseURL, "/"), "/v1")
	if p := r.client.Get(r.ctx, r.target, root+"/metrics"); p != nil {
		found := false
		for line := range strings.Lines(string(p)) {
			name, _, _ := strings.Cut(line, " ")
			name, _, _ = strings.Cut(name, "{")
			switch name {
			case "vllm:num_requests_running", "vllm:num_requests_waiting", "sglang:num_running_reqs", "sglang:num_queue_reqs", "llamacpp:requests_processing", "llamacpp:requests_deferred":
				fields := strings.Fields(line)
				var f float64
				if _, err := fmt.Sscan(fields[len(fields)-1], &f); err == nil {
					n, found = n+int(f), true
				}
			}
		}
		if found {
			return n, "its /metrics"
		}
	}
	var slots []struct {
		Busy *bool `json:"is_processing"`
	}
	if json.Unmarshal(r.client.Get(r.ctx, r.target, root+"/slots"), &slots) == nil && len(slots) > 0 {
		for _, sl := range slots {
			if sl.Busy == nil {
				return 0, ""
			}
			if *sl.Busy {
				n++
			}
		}
		return n, "its /slots"
	}
	return 0, ""
}

// cancelByNext works where a server answers one request after another: what waits behind
// an answer that was left is answered once that has ended.
func (r *run) cancelByNext(s *section, name string, body []byte) {
	quick, err := (&measure.Prompt{Messages: user("Say hi."), Output: limitOut, Stream: true}).Body(r.target)
	if err != nil {
		s.check(name, 0, err.Error())
		return
	}
	var alone []time.Duration
	for range 3 {
		sample, _ := r.post(r.ctx, r.target, quick, measure.Watch{Until: func(int) bool { return true }})
		if sample.FirstToken == 0 {
			s.check(name, 0, string(sample.Kind)+": "+sample.Error)
			return
		}
		alone = append(alone, sample.FirstToken-sample.Sent)
	}
	slices.Sort(alone)
	base := alone[1]

	ctx, leave := context.WithCancel(r.ctx)
	defer leave()
	begun := make(chan struct{}, 1)
	over := make(chan *measure.Sample, 1)
	go func() {
		sample := &measure.Sample{Due: r.client.Now()}
		r.client.Ask(ctx, r.target, body, sample, measure.Watch{Token: func(n int) {
			if n == stopAt {
				begun <- struct{}{}
			}
		}})
		over <- sample
	}()
	select {
	case <-begun:
	case sample := <-over:
		r.count(sample)
		if !answered(sample) {
			s.check(name, 0, string(sample.Kind)+": "+sample.Error)
		} else {
			s.unknown(name, "its answer ends too soon to be left")
		}
		return
	}
	next := make(chan *measure.Sample, 1)
	go func() {
		sample := &measure.Sample{Due: r.client.Now()}
		r.client.Ask(r.ctx, r.target, quick, sample, measure.Watch{Until: func(int) bool { return true }})
		next <- sample
	}()
	patience := time.NewTimer(5*base + 500*time.Millisecond)
	defer patience.Stop()
	select {
	case sample := <-next:
		leave()
		r.count(<-over)
		r.count(sample)
		s.unknown(name, "it answers others meanwhile and shows nothing of what it does: whether it stops cannot be seen from here")
		return
	case sample := <-over:
		r.count(sample)
		r.count(<-next)
		s.unknown(name, "its answer ends too soon to be left")
		return
	case <-patience.C:
	}
	left := r.client.Now()
	leave()
	r.count(<-over)
	sample := <-next
	r.count(sample)
	if sample.FirstToken == 0 {
		s.check(name, 0, "what waited behind it was not answered: "+string(sample.Kind)+": "+sample.Error)
		return
	}
	r.stopped(s, name, sample.FirstToken-left-base, "as the next request's answer shows")
}
