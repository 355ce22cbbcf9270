package harness

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"nearside/bench/load"
	"nearside/bench/measure"
	"nearside/bench/stats"
)

// Own is what this harness itself can do, measured against a responder of its own that
// answers at once, over loopback and in the same process: since both share the machine,
// the true limit is somewhat higher.
type Own struct {
	Requests float64       `json:"requests_per_second"` // answers of so many Events each
	Events   float64       `json:"events_per_second"`   // of all streams together
	Stream   float64       `json:"stream_events_per_second"`
	First    stats.Summary `json:"first_token"` // one request at a time: what the harness adds to a time to the first token
	Workers  int           `json:"workers"`
	Length   int           `json:"events_of_an_answer"`
}

// The bounds of what is measured of the harness itself.
const (
	ownAlone    = 50 // requests one at a time, at most
	ownTime     = 300 * time.Millisecond
	ownWorkers  = 16
	ownEventMin = 16
	ownEventMax = 256
)

// own measures the harness as the plan uses it.
func own(ctx context.Context, p *Plan, opt measure.Options) (*Own, error) {
	_, output, _ := p.Source.Plan()
	o := &Own{Workers: ownWorkers, Length: min(max(output, ownEventMin), ownEventMax)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("measure the harness itself: %w", err)
	}
	r := &responder{answer: scripted(p.Targets[0].Dialect, o.Length)}
	r.wg.Go(func() { r.serve(ln) })
	defer func() {
		ln.Close()
		r.close()
	}()
	t := &measure.Target{Name: "self", BaseURL: "http://" + ln.Addr().String() + "/v1", Model: "self", Dialect: p.Targets[0].Dialect}
	prompt := measure.Prompt{Messages: []measure.Message{{Role: "user", Text: "x"}}, Output: o.Length, Stream: true}
	body, err := prompt.Body(t)
	if err != nil {
		return nil, err
	}
	c := measure.New(opt)
	defer c.Close()
	var mu sync.Mutex // guards both
	var all []measure.Sample
	var failure error
	do := func(ctx context.Context, _ int, due time.Duration) {
		s := measure.Sample{Due: due}
		c.Ask(ctx, t, body, &s, measure.Watch{})
		mu.Lock()
		defer mu.Unlock()
		if s.Kind != measure.OK && ctx.Err() == nil {
			failure = errors.New(s.Error)
		}
		all = append(all, s)
	}
	alone := load.Closed(1, ownAlone, ownTime)
	alone.Run(ctx, c.Now, do, nil)
	first := stats.NewHistogram()
	var rates []float64
	for i := range all {
		first.Add(all[i].TTFT())
		if d := all[i].End - all[i].Head; d > 0 {
			rates = append(rates, float64(o.Length)/d.Seconds())
		}
	}
	if len(rates) > 0 {
		o.First, o.Stream = first.Summary(), stats.Percentile(0.5)(rates)
	}
	all = all[:0]
	many := load.Closed(o.Workers, 0, ownTime)
	began := c.Now()
	many.Run(ctx, c.Now, do, nil)
	took := (c.Now() - began).Seconds()
	o.Requests = float64(len(all)) / took
	o.Events = o.Requests * float64(o.Length)
	if failure != nil {
		return nil, fmt.Errorf("measure the harness itself: %w", failure)
	}
	return o, ctx.Err()
}

// responder answers every request with the same bytes.
type responder struct {
	answer [][]byte // written one by one, as servers write events
	wg     sync.WaitGroup

	mu     sync.Mutex // guards both
	closed bool
	conns  []net.Conn
}

func (r *responder) serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		if r.closed {
			c.Close()
		}
		r.conns = append(r.conns, c)
		r.mu.Unlock()
		r.wg.Go(func() {
			defer c.Close()
			br := bufio.NewReader(c)
			for r.one(c, br) == nil {
			}
		})
	}
}

func (r *responder) close() {
	r.mu.Lock()
	r.closed = true
	for _, c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// one reads a request of our own client's and answers it.
func (r *responder) one(c net.Conn, br *bufio.Reader) error {
	length := 0
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if _, err := io.CopyN(io.Discard, br, int64(length)); err != nil {
		return err
	}
	for _, p := range r.answer {
		if _, err := c.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// scripted is a stream of n tokens as the dialect writes it, chunk by chunk.
func scripted(d measure.Dialect, n int) [][]byte {
	var begin, token string
	var end []string
	switch d {
	case measure.Responses:
		begin = `{"type":"response.created","response":{"id":"resp_self","status":"in_progress"}}`
		token = `{"type":"response.output_text.delta","item_id":"msg_self","output_index":0,"content_index":0,"delta":"word "}`
		end = []string{fmt.Sprintf(`{"type":"response.completed","response":{"id":"resp_self","status":"completed","usage":{"input_tokens":1,"output_tokens":%d}}}`, n)}
	case measure.Messages:
		begin = `{"type":"message_start","message":{"id":"msg_self","type":"message","role":"assistant","content":[],"usage":{"input_tokens":1,"output_tokens":1}}}`
		token = `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"word "}}`
		end = []string{fmt.Sprintf(`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":%d}}`, n), `{"type":"message_stop"}`}
	default:
		begin = `{"id":"self","object":"chat.completion.chunk","created":1,"model":"self","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`
		token = `{"id":"self","object":"chat.completion.chunk","created":1,"model":"self","choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}`
		end = []string{`{"id":"self","object":"chat.completion.chunk","created":1,"model":"self","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`,
			fmt.Sprintf(`{"id":"self","object":"chat.completion.chunk","created":1,"model":"self","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%d,"total_tokens":%d}}`, n, n+1), "[DONE]"}
	}
	chunk := func(data string) string {
		p := "data: " + data + "\n\n"
		return strconv.FormatInt(int64(len(p)), 16) + "\r\n" + p + "\r\n"
	}
	all := [][]byte{[]byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(begin))}
	for range n {
		all = append(all, []byte(chunk(token)))
	}
	var last strings.Builder
	for _, e := range end {
		last.WriteString(chunk(e))
	}
	return append(all, []byte(last.String()+"0\r\n\r\n"))
}

// What is too much for the harness to be believed: beyond a half of what it can do it
// has a part in what it measures.
const (
	ownShare = 0.5
	ownCPU   = 0.8 // of the processors that it may use
	ownLate  = 20 * time.Millisecond
)

// bottleneck says why the harness itself may have been what was measured in a step; it
// is empty when it was not.
func (o *Own) bottleneck(sp *Span, all []measure.Sample) string {
	var why []string
	if sp.Late.N > 0 && sp.Late.P99 > ownLate {
		why = append(why, fmt.Sprintf("requests were sent late (p99 %v)", sp.Late.P99.Round(time.Millisecond)))
	}
	if sp.CPU > ownCPU {
		why = append(why, fmt.Sprintf("the harness used %.0f %% of its processors", 100*sp.CPU))
	}
	if o == nil {
		return strings.Join(why, "; ")
	}
	events, answers := 0, 0
	var rates []float64
	for i := range all {
		s := &all[i]
		events += s.Events
		if s.Sent != 0 {
			answers++
		}
		if d := s.LastToken - s.FirstToken; s.Events >= ownEventMin && d > 0 {
			rates = append(rates, float64(s.Events-1)/d.Seconds())
		}
	}
	took := (sp.End - sp.Begin).Seconds()
	over := func(what string, got, can float64) {
		if can > 0 && got > ownShare*can {
			why = append(why, fmt.Sprintf("%.0f %s of the %.0f that it can take", got, what, can))
		}
	}
	if took > 0 {
		over("events a second", float64(events)/took, o.Events)
		if events == 0 { // whole answers are read at once
			over("answers a second", float64(answers)/took, o.Requests)
		}
	}
	if len(rates) > 0 {
		slices.Sort(rates)
		over("events a second in one stream", rates[len(rates)/2], o.Stream)
	}
	return strings.Join(why, "; ")
}
