package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/goccy/go-json"
	"github.com/valyala/fasthttp"
)

// ServeBare runs the relay that everything is compared with: fasthttp on both
// sides, the request's bytes handed on whole, the answer's body streamed, and
// nothing parsed. upstreams are pairs NAME=HOST:PORT; each gets a listener, told
// on w as the backends' are.
//
// A body reader's every Read is written and flushed at once, which is what
// fasthttp does with a body of unknown length.
func ServeBare(w io.Writer, upstreams []string, stop <-chan struct{}) error {
	type listening struct {
		srv *fasthttp.Server
		end chan error
	}
	var all []listening
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), bareGrace)
		defer cancel()
		for _, l := range all {
			_ = l.srv.ShutdownWithContext(ctx) // streams that are held end with the process
			<-l.end
		}
	}()
	for _, pair := range upstreams {
		name, addr, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("upstream %q: want NAME=HOST:PORT", pair)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		srv := &fasthttp.Server{Handler: relayTo(addr), MaxRequestBodySize: 32 << 20}
		end := make(chan error, 1)
		go func() { end <- srv.Serve(ln) }()
		all = append(all, listening{srv, end})
		line, err := json.Marshal(note{Backend: name, URL: "http://" + ln.Addr().String()})
		if err != nil {
			return err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(w, "{}\n"); err != nil {
		return err
	}
	<-stop
	return nil
}

// bareGrace is how long the relay waits for answers in work when it is stopped.
const bareGrace = 200 * time.Millisecond

func relayTo(addr string) fasthttp.RequestHandler {
	client := &fasthttp.HostClient{Addr: addr, MaxConns: 20000, StreamResponseBody: true}
	return func(ctx *fasthttp.RequestCtx) {
		resp := fasthttp.AcquireResponse()
		if err := client.Do(&ctx.Request, resp); err != nil {
			fasthttp.ReleaseResponse(resp)
			ctx.Error(err.Error(), fasthttp.StatusBadGateway)
			return
		}
		ctx.SetStatusCode(resp.StatusCode())
		ctx.Response.Header.SetContentTypeBytes(resp.Header.ContentType())
		if resp.BodyStream() == nil { // an answer without a body
			fasthttp.ReleaseResponse(resp)
			return
		}
		ctx.Response.SetBodyStream(&answerBody{resp: resp, r: resp.BodyStream()}, resp.Header.ContentLength())
	}
}

// answerBody is the body of an upstream's answer and gives the answer back when
// it was relayed or the client is gone.
type answerBody struct {
	resp *fasthttp.Response
	r    io.Reader
}

func (b *answerBody) Read(p []byte) (int, error) { return b.r.Read(p) }

// Close ends the upstream's answer. fasthttp calls it once.
func (b *answerBody) Close() error {
	if b.resp == nil {
		return nil
	}
	err := b.resp.CloseBodyStream()
	fasthttp.ReleaseResponse(b.resp)
	b.resp, b.r = nil, nil
	return err
}
