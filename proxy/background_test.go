package proxy

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const backgroundBody = `{"model":"default","background":true,"input":"`

// queuedResponse starts a background response and returns its id.
func queuedResponse(t *testing.T, addr, input string) string {
	t.Helper()
	status, _, body := post(t, "http://"+addr+"/v1/responses", backgroundBody+input+`"}`)
	var v struct{ ID, Status string }
	if err := json.Unmarshal([]byte(body), &v); err != nil || status != 200 || v.Status != "queued" {
		t.Fatalf("%d %s", status, body)
	}
	return v.ID
}

// storedResponse reads the state of a response, and the code of its error.
func storedResponse(t *testing.T, s *Server, id string) (status, code string) {
	t.Helper()
	r, err := s.store.Get("", id)
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Status string
		Error  struct{ Code string }
	}
	if err := json.Unmarshal(r.Resource, &v); err != nil {
		t.Fatal(err)
	}
	if v.Status != r.Status {
		t.Errorf("the store says %s, the resource %s", r.Status, v.Status)
	}
	return v.Status, v.Error.Code
}

// stallBackend answers "stall" with a word and waits until it is left.
func stallBackend(t testing.TB, asked chan<- string) string {
	return rawBackend(t, func(c net.Conn, body string) bool {
		asked <- body
		if strings.Contains(body, "stall") {
			io.WriteString(c, okStream+strings.TrimSuffix(framed(roleEvent, wordEvent), "0\r\n\r\n"))
			c.Read(make([]byte, 1))
			return false
		}
		return sayHello(c, body)
	})
}

// A shutdown ends what runs when its grace is over, begins nothing that waits,
// and stores how both ended.
func TestBackgroundUnderShutdown(t *testing.T) {
	asked := make(chan string, 16)
	s, addr := responsesServer(t, stallBackend(t, asked), func(c *Config) { c.Responses.Background, c.Drain.Grace = 1, 200*time.Millisecond }, nil)
	runs := queuedResponse(t, addr, "stall")
	<-asked
	waits := queuedResponse(t, addr, "hi")
	s.Shutdown(context.Background())
	for _, id := range []string{runs, waits} {
		if status, code := storedResponse(t, s, id); status != "failed" || code != "server_shutting_down" {
			t.Errorf("%s: %s %s", id, status, code)
		}
	}
	if len(asked) > 0 {
		t.Error("what waited was begun")
	}
}

// One that can finish within the grace does.
func TestBackgroundFinishesWithinTheGrace(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	s, addr := responsesServer(t, rawBackend(t, func(c net.Conn, body string) bool {
		asked <- struct{}{}
		<-release
		return sayHello(c, body)
	}), func(c *Config) { c.Drain.Grace = testPatience }, nil)
	id := queuedResponse(t, addr, "hi")
	<-asked
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(context.Background()) }()
	eventually(t, "it does not drain", s.jobs.over)
	close(release)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if status, _ := storedResponse(t, s, id); status != "completed" {
		t.Errorf("stored as %s", status)
	}
}

// Cancels, stops and ends may meet in any order: nothing hangs, and what is
// stored has ended.
func TestBackgroundCancelsMeetEnds(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("serve", func(t *testing.T) {
		asked := make(chan string, 1024)
		s, addr := responsesServer(t, stallBackend(t, asked), func(c *Config) { c.Responses.Background, c.Drain.Grace = 3, 100*time.Millisecond }, nil)
		var all sync.WaitGroup
		var mu sync.Mutex
		var ids []string
		for i := range 30 {
			input := "hi"
			if i%2 == 0 {
				input = "stall"
			}
			id := queuedResponse(t, addr, input)
			mu.Lock()
			ids = append(ids, id)
			mu.Unlock()
			switch {
			case i%3 == 0:
				all.Go(func() {
					status, _, body := post(t, "http://"+addr+"/v1/responses/"+id+"/cancel", "{}")
					if status != 200 || strings.Contains(body, `"status":"queued"`) || strings.Contains(body, `"status":"in_progress"`) {
						t.Errorf("cancel: %d %s", status, body)
					}
				})
			case i == 10:
				all.Go(func() {
					req, _ := http.NewRequest("DELETE", "http://"+addr+"/v1/responses/"+id, nil)
					tr := &http.Transport{DisableKeepAlives: true}
					resp, err := (&http.Client{Transport: tr}).Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
				})
			}
		}
		all.Wait()
		s.Shutdown(context.Background())
		for i, id := range ids {
			if i == 10 {
				continue // deleted
			}
			if status, _ := storedResponse(t, s, id); status == "queued" || status == "in_progress" {
				t.Errorf("response %d is left %s", i, status)
			}
		}
		s.jobs.mu.Lock()
		left, waiting, slots := len(s.jobs.running), s.jobs.waiting, len(s.jobs.slots)
		s.jobs.mu.Unlock()
		if left+waiting+slots != 0 || s.conns.Load() != 0 || s.inFlight.Load() != 0 {
			t.Errorf("%d jobs, %d waiting, %d slots, %d connections, %d bytes are left", left, waiting, slots, s.conns.Load(), s.inFlight.Load())
		}
	})
	goleak.VerifyNone(t, before, goleak.IgnoreTopFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"), goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.init.0.func1"))
}

// Too many that wait are refused, and leave nothing in the store.
func TestBackgroundQueueIsBounded(t *testing.T) {
	asked := make(chan string, 16)
	_, addr := responsesServer(t, stallBackend(t, asked), func(c *Config) {
		c.Responses.Background, c.Responses.BackgroundQueue, c.Drain.Grace = 1, 1, 100*time.Millisecond
	}, nil)
	queuedResponse(t, addr, "stall")
	<-asked
	queuedResponse(t, addr, "stall")
	status, _, body := post(t, "http://"+addr+"/v1/responses", backgroundBody+`hi"}`)
	if status != 429 || !strings.Contains(body, "backgroundQueue") {
		t.Errorf("%d %s", status, body)
	}
}

// A reader of a running response's events is told of the end even where too many
// events were to be kept, and at once.
func TestBackgroundEventsBeyondTheBound(t *testing.T) {
	j := &job{changed: make(chan struct{})}
	j.add([]byte("one"), 4)
	changed := j.changed
	j.add([]byte("two"), 4)
	select {
	case <-changed:
	default:
		t.Error("nobody is told that events are missing")
	}
	j.add([]byte("3"), 4)
	if !j.lost || len(j.events) != 1 {
		t.Errorf("lost %v, %d events: what comes after a gap must not be kept", j.lost, len(j.events))
	}
}
