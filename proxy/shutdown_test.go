package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"nearside/catalog"
	"nearside/proxy/meter"
)

// slowWrites is a listener whose connections write only once they may.
type slowWrites struct {
	net.Listener
	begun chan struct{} // gets one for each write that waits
	may   chan struct{} // closed when they may
}

type slowWriter struct {
	net.Conn
	l *slowWrites
}

func (l *slowWrites) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &slowWriter{c, l}, nil
}

func (c *slowWriter) Write(p []byte) (int, error) {
	c.l.begun <- struct{}{}
	<-c.l.may
	return c.Conn.Write(p)
}

// An exchange is over before its answer is written: a shutdown that only waits
// for exchanges would close the connection under it.
func TestShutdownLetsAnswersOut(t *testing.T) {
	s := New(&Snapshot{Config: Defaults(), Catalog: catalog.New(nil, nil, nil)}, Options{Log: zerolog.Nop(), Meter: meter.New(meter.Options{}), Version: "test"})
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := &slowWrites{plain, make(chan struct{}, 16), make(chan struct{})}
	served, asked, down := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { served <- s.Serve(t.Context(), ln, nil) }()
	var body string
	go func() {
		tr := &http.Transport{DisableKeepAlives: true}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Post("http://"+plain.Addr().String()+"/v1/chat/completions", "application/json", strings.NewReader(chatBody))
		if err == nil {
			var b []byte
			b, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			body = string(b)
		}
		asked <- err
	}()
	<-ln.begun
	go func() { down <- s.Shutdown(context.Background()) }()
	select {
	case err := <-down:
		t.Errorf("it was down (%v) before the answer was out", err)
		down <- err
	case <-time.After(100 * time.Millisecond):
	}
	close(ln.may)
	if err := <-asked; err != nil || !strings.Contains(body, `"error"`) {
		t.Errorf("the client got %v %q", err, body)
	}
	select {
	case err := <-down:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it is never down")
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
