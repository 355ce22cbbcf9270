package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"

	"nearside/catalog"
)

// What is at stake: a probe that takes too much for life closes a breaker on a
// dead server, one that takes too little leaves it open.
func TestProbeModelsTakesAnyAnswerOfAServerForLife(t *testing.T) {
	f := func(name string, h http.HandlerFunc, want Kind) {
		t.Helper()
		s := replay(t, "vllm", map[string]http.HandlerFunc{"/v1/models": h})
		err := ProbeModels(context.Background(), Config{ID: "box", BaseURL: s.URL + "/v1", Near: true}, Dialer{})
		var e *Error
		if want == "" && err != nil || want != "" && (!errors.As(err, &e) || e.Kind != want) {
			t.Errorf("%s: got %v, want kind %q", name, err, want)
		}
		if asked := s.list(); len(asked) != 1 || asked[0] != "GET /v1/models" {
			t.Errorf("%s: asked %q, want the model list once", name, asked)
		}
	}
	f("list", nil, "")
	f("empty list", answer(200, "application/json", `{"data":[]}`), "")
	f("key wanted", answer(401, "application/json", `{}`), "")
	f("no such path", answer(404, "text/html", "<h1>Not Found</h1>"), "")
	f("busy", answer(429, "application/json", `{}`), "")
	f("LM Studio's 200", answer(200, "application/json", `{"error":"Unexpected endpoint or method. (GET /v1/models)"}`), "")
	f("moved", func(w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, "/elsewhere", http.StatusFound) }, "")
	f("web page", answer(200, "text/html", "<html>"), KindMalformed)
	f("web page by its looks", answer(200, "", " <!DOCTYPE html>"), KindMalformed)
	f("loading", answer(503, "application/json", `{"error":{"message":"Loading model"}}`), KindMalformed)
	f("broken", answer(500, "application/json", `{}`), KindMalformed)
	f("hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, KindClosed)
}

func TestProbeModelsNamesConnectFaults(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + ln.Addr().String() + "/v1"
	ln.Close()
	n := openPretendNet(t, map[string][][]string{"box.lan": {{"192.168.1.20"}}})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f := func(ctx context.Context, base string, want Kind) {
		t.Helper()
		err := ProbeModels(ctx, Config{ID: "box", BaseURL: base, API: catalog.Messages}, Dialer{Resolver: n})
		var e *Error
		if !errors.As(err, &e) || e.Kind != want {
			t.Fatalf("%s: got %v, want %s", base, err, want)
		}
	}
	f(context.Background(), base, KindRefused)
	f(context.Background(), "http://box.lan/v1", KindAddress)
	f(context.Background(), "http://nowhere.lan/v1", KindDNS)
	f(ctx, base, KindCancelled)
	f(context.Background(), "nonsense", KindUnreachable)
}
