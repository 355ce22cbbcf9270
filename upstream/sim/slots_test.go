package sim

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowd sends n streamed requests at once, reads their answers to the end and returns
// the statuses.
func crowd(t *testing.T, base string, n int) []int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	status := make([]int, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			req, _ := http.NewRequest("POST", base+"/v1/chat/completions", strings.NewReader(`{"model":"m","stream":true,"messages":[{"role":"user","content":"one two three"}]}`))
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("X-Client-Request-Id", fmt.Sprint("r", i))
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Error(err)
			}
			status[i] = resp.StatusCode
		})
	}
	wg.Wait()
	return status
}

// A server with slots works at no more requests at a time, takes the others in their
// order, and its own stamps say how long each waited.
func TestSlotsQueue(t *testing.T) {
	s := New(Options{Slots: 2, Stamps: 16, Timing: Timing{FirstToken: 15 * time.Millisecond, PerToken: 2 * time.Millisecond, Tokens: 6}})
	defer s.Close()
	u, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	crowd(t, u, 7)
	all := s.Stamps()
	if len(all) != 7 {
		t.Fatalf("%d stamps of 7 requests", len(all))
	}
	ids := map[string]bool{}
	for _, st := range all {
		ids[st.ID] = true
		if st.Running < 1 || st.Running > 2 {
			t.Errorf("%d ran where there are 2 slots", st.Running)
		}
		if len(st.Tokens) != 6 || st.Status != 200 {
			t.Errorf("%d tokens, status %d", len(st.Tokens), st.Status)
			continue
		}
		if d := st.First().Sub(st.Started); d < 15*time.Millisecond {
			t.Errorf("the first token came %v after the slot", d)
		}
		times := append([]time.Time{st.Received, st.Read, st.Started}, append(st.Tokens, st.Finished)...)
		if !slices.IsSortedFunc(times, time.Time.Compare) {
			t.Errorf("out of order: %+v", st)
		}
	}
	if len(ids) != 7 {
		t.Errorf("ids %v", ids)
	}
	// Whoever started third or later did so when another had finished.
	slices.SortFunc(all, func(a, b Stamp) int { return a.Started.Compare(b.Started) })
	ends := slices.Clone(all)
	slices.SortFunc(ends, func(a, b Stamp) int { return a.Finished.Compare(b.Finished) })
	for i := 2; i < len(all); i++ {
		if all[i].Started.Before(ends[i-2].Finished) {
			t.Errorf("request %d started before request %d had finished", i, i-2)
		}
		if all[i].Started.Sub(all[i].Read) < 10*time.Millisecond {
			t.Errorf("request %d waited only %v", i, all[i].Started.Sub(all[i].Read))
		}
	}
}

// A client that leaves while it waits for a slot gives its place in the line up, and
// one that leaves while it runs gives the slot on.
func TestSlotsAreGivenBack(t *testing.T) {
	s := New(Options{Slots: 1, Stamps: 16, Timing: Timing{FirstToken: time.Millisecond, Tokens: 2}})
	defer s.Close()
	u, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	s.Push(Script{Steps: []Step{Begin(), UpTo("content"), Hold()}})
	ask := func() io.ReadCloser { // the head comes at once, whoever waits
		t.Helper()
		resp, err := http.Post(u+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		return resp.Body
	}
	holds, waits, last := ask(), ask(), ask()
	defer last.Close()
	waits.Close()
	holds.Close()
	p, err := io.ReadAll(last)
	if err != nil || !strings.HasSuffix(string(p), "data: [DONE]\n\n") {
		t.Errorf("the third did not get the slot: %v, %q", err, p)
	}
}

// Every further running request lengthens the time between tokens by the share that
// Batch says, also that of whole answers.
func TestBatchSlowsTokens(t *testing.T) {
	s := New(Options{Stamps: 16, Timing: Timing{FirstToken: 5 * time.Millisecond, PerToken: 4 * time.Millisecond, Batch: 0.5, Tokens: 10}})
	defer s.Close()
	u, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	crowd(t, u, 1)
	crowd(t, u, 4)
	gap := func(st Stamp) time.Duration { return st.Tokens[9].Sub(st.Tokens[0]) / 9 }
	all := s.Stamps()
	alone := gap(all[0])
	if alone < 4*time.Millisecond {
		t.Errorf("a token every %v alone, want 4ms", alone)
	}
	// The four began together and ran together but for the time it took to send them.
	var longest time.Duration
	for _, st := range all[1:] {
		longest = max(longest, gap(st))
	}
	if want := 8 * time.Millisecond; longest < want { // 10 ms where all four run all the time
		t.Errorf("a token every %v among four, want 10ms or a little less", longest)
	}
}

// The share that fails is the one that was asked for, and what fails says so in the
// server's own words.
func TestErrorsAreAShare(t *testing.T) {
	s := New(Options{Errors: 0.25, Stamps: 100, Timing: Timing{Tokens: 1}})
	defer s.Close()
	u, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, st := range crowd(t, u, 80) {
		if st == 500 {
			n++
		}
	}
	own := 0
	for _, st := range s.Stamps() {
		if st.Status == 500 {
			own++
		}
	}
	if n < 18 || n > 22 || own != n {
		t.Errorf("%d of 80 failed, by its own stamps %d; want 20 or so", n, own)
	}
}
