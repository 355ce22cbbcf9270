package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"nearside/catalog"
	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// BenchmarkRelayEvent is what one event of a chat stream costs from the
// backend's read to the client's write, without sockets: the body's framing,
// the scanner, the decoder, the encoder, the flush. One exchange carries all
// events. Paced, each comes alone and is flushed alone, as tokens do; flooded,
// a read brings as many as fit. The last two are without mending, to compare.
func BenchmarkRelayEvent(b *testing.B) {
	for name, flooded := range map[string]bool{"paced": false, "flooded": true, "paced-unmended": false, "flooded-unmended": true} {
		b.Run(name, func(b *testing.B) {
			from := &eventSource{events: b.N, flooded: flooded}
			ln := &oneConn{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
			s, _ := testServerWith(b, upstream.Dialer{Dial: func(context.Context, string, string) (net.Conn, error) {
				from.Conn, _ = net.Pipe()
				return from, nil
			}}, nil, "http://127.0.0.1:9/v1")
			if strings.HasSuffix(name, "unmended") {
				snap := s.snap.Load()
				r, err := snap.Catalog.Resolve("default", catalog.ResolveOptions{})
				if err != nil {
					b.Fatal(err)
				}
				*s.target(snap, r.Models[0]).shapes[wire.Chat].Mend() = shaping.MendOptions{}
			}
			served := make(chan error, 1)
			go func() { served <- s.http.Serve(listener{Listener: ln, s: s}) }()
			ours, theirs := net.Pipe()
			done := make(chan struct{})
			sink := &discard{Conn: theirs, done: done}
			b.SetBytes(int64(len(wordEvent)))
			b.ReportAllocs()
			b.ResetTimer()
			ln.conn <- sink
			fmt.Fprintf(ours, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(streamBody), streamBody)
			<-done
			b.StopTimer()
			if sink.bytes < b.N*len(wordEvent) {
				b.Fatalf("%d bytes came of %d events of %d\n%s", sink.bytes, b.N, len(wordEvent), sink.last)
			}
			ours.Close()
			ln.Close()
			if err := <-served; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// eventSource is a backend's connection that answers with a stream of events.
type eventSource struct {
	net.Conn
	events  int
	flooded bool
	said    int // parts that were read: the head, the events, the end
	left    []byte
}

var eventFrame = fmt.Appendf(nil, "%x\r\n%s\r\n", len(wordEvent), wordEvent)

func (s *eventSource) Write(p []byte) (int, error) { return len(p), nil }

func (s *eventSource) Read(p []byte) (int, error) {
	n := 0
	for {
		if len(s.left) == 0 {
			switch s.said {
			case 0:
				s.left = []byte(okStream)
			case s.events + 1:
				s.left = []byte(framed(stopEvent, doneEvent))
			case s.events + 2:
				return n, nil
			default:
				s.left = eventFrame
			}
			s.said++
		}
		m := copy(p[n:], s.left)
		n, s.left = n+m, s.left[m:]
		if !s.flooded || n == len(p) {
			return n, nil
		}
	}
}

// discard is a client's connection that counts what it is sent.
type discard struct {
	net.Conn
	bytes int
	last  []byte
	done  chan struct{}
}

func (d *discard) Write(p []byte) (int, error) {
	d.bytes += len(p)
	if d.last = append(d.last[:0], p...); bytes.HasSuffix(p, []byte("0\r\n\r\n")) {
		close(d.done)
	}
	return len(p), nil
}

// oneConn is a listener of connections made in the test.
type oneConn struct {
	conn   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, io.EOF
	}
}

func (l *oneConn) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
