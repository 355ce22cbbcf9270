package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"nearside/upstream/sim"
)

const (
	tinyPNG   = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
	dataImage = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="
)

// seeing is a request with an image, in each dialect.
func seeing(url string) map[string]string {
	source := fmt.Sprintf(`{"type":"url","url":%q}`, url)
	if data, ok := strings.CutPrefix(url, "data:image/png;base64,"); ok {
		source = fmt.Sprintf(`{"type":"base64","media_type":"image/png","data":%q}`, data)
	}
	return map[string]string{
		"/v1/chat/completions": fmt.Sprintf(`{"model":"default","messages":[{"role":"user","content":[{"type":"text","text":"what is it"},{"type":"image_url","image_url":{"url":%q}}]}]}`, url),
		"/v1/responses":        fmt.Sprintf(`{"model":"default","input":[{"role":"user","content":[{"type":"input_text","text":"what is it"},{"type":"input_image","image_url":%q}]}]}`, url),
		"/v1/messages":         fmt.Sprintf(`{"model":"default","max_tokens":50,"messages":[{"role":"user","content":[{"type":"text","text":"what is it"},{"type":"image","source":%s}]}]}`, source),
	}
}

// blindAndSeeing are a server that reads no images and one that does.
func blindAndSeeing(t *testing.T) (blind, sees *sim.Server, blindURL, seesURL string) {
	blind, blindURL = pageServer(t, sim.Options{Profile: sim.LlamaCPP, Models: []string{"m"}, Reply: "from the blind"})
	sees, seesURL = pageServer(t, sim.Options{Profile: sim.VLLM, Models: []string{"m"}, Images: true, Reply: "from the seeing"})
	return blind, sees, blindURL + "/v1", seesURL + "/v1"
}

// posts counts what was asked of a server's models.
func posts(s *sim.Server) (n int) {
	for _, r := range s.Requests() {
		if r.Method == "POST" && strings.HasPrefix(r.Path, "/v1/") {
			n++
		}
	}
	return n
}

// An image must not end where nobody sees it: the next target that reads images is
// asked, and without one the client hears what to change.
func TestImagesGoToATargetThatReadsThem(t *testing.T) {
	t.Parallel()
	blind, sees, blindURL, seesURL := blindAndSeeing(t)
	text, image := `, input: ["text"]`, `, input: ["text", "image"]`
	p := start(t, configOf(quick, sized("near", blindURL, 32768, text), sized("far", seesURL, 32768, image)))
	for path, body := range seeing(dataImage) {
		got := p.post(path, body)
		if got.status != 200 || got.saidIn() != "from the seeing" || got.header.Get("X-Nearside-Attempts") != "near/m=input_not_read, far/m=ok" {
			t.Errorf("%s: %d %q %s\n%s", path, got.status, got.saidIn(), got.header.Get("X-Nearside-Attempts"), got.body)
		}
		if sent := string(lastAsked(sees).Body); !strings.Contains(sent, "iVBORw0KGgoAAAANSUhEUg==") {
			t.Errorf("%s: sent %s", path, sent)
		}
		alone := p.post(path, strings.Replace(body, `"default"`, `"near/m"`, 1), "x-nearside-fallback", "none")
		message := fmt.Sprint(alone.failure()["message"])
		if alone.status != 400 || !strings.Contains(message, "near/m") || !strings.Contains(message, `add "image" to input of "m" in models.providers.near.models`) ||
			path != "/v1/messages" && alone.failure()["code"] != "unsupported_image_input" {
			t.Errorf("%s, alone: %d %s", path, alone.status, alone.body)
		}
	}
	if got := p.post("/v1/chat/completions", hello); got.text() != "from the blind" {
		t.Errorf("without an image: %q", got.text())
	}
	if n := posts(blind); n != 1 {
		t.Errorf("the blind was asked %d times", n)
	}
	audio := p.post("/v1/chat/completions", `{"model":"near/m","messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}]}`, "x-nearside-fallback", "none")
	if audio.status != 400 || audio.failure()["code"] != "unsupported_audio_input" {
		t.Errorf("audio: %d %s", audio.status, audio.body)
	}
}

// The settings, and the flags above them.
func TestImagesForWhoReadsNoneFollowTheSettings(t *testing.T) {
	t.Parallel()
	blind, sees, blindURL, seesURL := blindAndSeeing(t)
	text, image := `, input: ["text"]`, `, input: ["text", "image"]`
	far := sized("far", seesURL, 32768, image)
	refused := start(t, configOf(`inputs: {unsupportedImages: "error"}, `+quick, sized("near", blindURL, 32768, text), far))
	for path, body := range seeing(dataImage) {
		if got := refused.post(path, body); got.status != 400 || !strings.Contains(fmt.Sprint(got.failure()["message"]), "near/m: the model reads no image") {
			t.Errorf("error, %s: %d %s", path, got.status, got.body)
		}
	}
	if posts(blind)+posts(sees) != 0 {
		t.Errorf("asked %d and %d times", posts(blind), posts(sees))
	}
	left := start(t, configOf(`inputs: {unsupportedImages: "error"}, models: {"near/m": {compat: {unsupportedImages: "placeholder"}}}, `+quick, sized("near", blindURL, 32768, text), far))
	for path, body := range seeing(dataImage) {
		got := left.post(path, body)
		sent := string(lastAsked(blind).Body)
		if got.status != 200 || got.saidIn() != "from the blind" || got.header.Get("X-Nearside-Dropped") != "images" ||
			strings.Contains(sent, "iVBOR") || !strings.Contains(sent, "(image omitted: model does not support images)") || !strings.Contains(sent, "what is it") {
			t.Errorf("placeholder, %s: %d %q, dropped %q\nsent %s\n%s", path, got.status, got.saidIn(), got.header.Get("X-Nearside-Dropped"), sent, got.body)
		}
	}
}

// Nobody says of many models what they read. A name is a hint: enough to look for
// a better one, not to refuse.
func TestNamesAreHintsOfWhatAModelReads(t *testing.T) {
	t.Parallel()
	near := newBackend(t, chat("near"))
	far := newBackend(t, chat("far"))
	body := seeing(dataImage)["/v1/chat/completions"]
	config := func(id string) string {
		return strings.Replace(configOf(quick, strings.Replace(sized("near", near.url, 32768), `"m"`, fmt.Sprintf("%q", id), 1), sized("far", far.url, 32768, `, input: ["text", "image"]`)),
			`"near/m"`, fmt.Sprintf("%q", "near/"+id), 1)
	}
	for id, want := range map[string]string{"mistral-small-3.2": "far", "qwen3-vl-8b": "near", "my-model": "near"} {
		p := start(t, config(id))
		if got := p.post("/v1/chat/completions", body); got.text() != want {
			t.Errorf("%s: %d %q, want %q\n%s", id, got.status, got.text(), want, got.body)
		}
		if got := p.post("/v1/chat/completions", strings.Replace(body, `"default"`, fmt.Sprintf("%q", "near/"+id), 1), "x-nearside-fallback", "none"); got.text() != "near" {
			t.Errorf("%s alone: %d %s", id, got.status, got.body)
		}
	}
}

// Ollama takes images in the request only. An address is followed where the
// configuration allows it, and nowhere else.
func TestRemoteImagesAreFetchedWhereAllowed(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 64)
	images := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		switch r.URL.Path {
		case "/a.png":
			w.Write([]byte(tinyPNG))
		case "/page":
			w.Write([]byte("<!doctype html>"))
		default:
			w.WriteHeader(404)
		}
	}))
	defer images.Close()
	ollama, url := pageServer(t, sim.Options{Profile: sim.Ollama, Models: []string{"m"}, Images: true, Reply: "an image"})
	vllm, vllmURL := pageServer(t, sim.Options{Profile: sim.VLLM, Models: []string{"m"}, Images: true, Reply: "fetched it itself"})
	config := func(inputs string, more ...string) string {
		return configOf(`inputs: {`+inputs+`}, providers: {near: {kind: "ollama", breaker: {disabled: true}}}`,
			append([]string{sized("near", url+"/v1", 32768, `, input: ["text", "image"]`)}, more...)...)
	}
	want := "data:image/png;base64," + base64.StdEncoding.EncodeToString([]byte(tinyPNG))

	p := start(t, config(`fetchImages: true, fetchPrivate: true`))
	for path, body := range seeing(images.URL + "/a.png") {
		for _, stream := range []string{"", `"stream":true,`} {
			got := p.post(path, strings.Replace(body, "{", "{"+stream, 1))
			sent := string(lastAsked(ollama).Body)
			if got.status != 200 || got.saidIn() != "an image" || !strings.Contains(sent, want) || strings.Contains(sent, images.URL) {
				t.Errorf("%s %s: %d %q\nsent %s\n%s", path, stream, got.status, got.saidIn(), sent, got.body)
			}
			if a := <-asked; a != "/a.png" {
				t.Errorf("asked for %s", a)
			}
		}
		for _, bad := range []struct{ url, why string }{{images.URL + "/page", "text/html"}, {images.URL + "/absent", "status 404"}, {"http://169.254.169.254/a", "metadata"}} {
			got := p.post(path, seeing(bad.url)[path])
			message := fmt.Sprint(got.failure()["message"])
			if got.status != 400 || !strings.Contains(message, bad.why) || !strings.Contains(message, bad.url) || path != "/v1/messages" && got.failure()["code"] != "image_not_fetched" {
				t.Errorf("%s, %s: %d %s", path, bad.url, got.status, got.body)
			}
		}
		for len(asked) > 0 {
			<-asked
		}
	}
	n := posts(ollama)

	for inputs, why := range map[string]string{``: "set proxy.inputs.fetchImages: true", `fetchImages: true`: "proxy.inputs.fetchPrivate is false"} {
		p := start(t, config(inputs))
		for path, body := range seeing(images.URL + "/a.png") {
			if got := p.post(path, body); got.status != 400 || !strings.Contains(fmt.Sprint(got.failure()["message"]), why) {
				t.Errorf("with {%s}, %s: %d %s", inputs, path, got.status, got.body)
			}
		}
	}
	far := sized("far", vllmURL+"/v1", 32768, `, input: ["text", "image"]`)
	next := start(t, config(``, far))
	if got := next.post("/v1/chat/completions", seeing(images.URL + "/a.png")["/v1/chat/completions"]); got.text() != "fetched it itself" || got.header.Get("X-Nearside-Attempts") != "near/m=remote_image, far/m=ok" {
		t.Errorf("with another: %d %q %s", got.status, got.text(), got.header.Get("X-Nearside-Attempts"))
	} else if sent := string(lastAsked(vllm).Body); !strings.Contains(sent, images.URL+"/a.png") {
		t.Errorf("sent %s", sent)
	}
	failing := start(t, config(`fetchImages: true`, far))
	if got := failing.post("/v1/chat/completions", seeing(images.URL + "/a.png")["/v1/chat/completions"]); got.text() != "fetched it itself" || got.header.Get("X-Nearside-Attempts") != "near/m=image_not_fetched, far/m=ok" {
		t.Errorf("with another, when it cannot be had: %d %q %s", got.status, got.text(), got.header.Get("X-Nearside-Attempts"))
	}
	few := start(t, config(`fetchImages: true, fetchPrivate: true, fetchCount: 1`))
	two := fmt.Sprintf(`{"model":"default","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"%s/a.png"}},{"type":"image_url","image_url":{"url":"%[1]s/b.png"}}]}]}`, images.URL)
	if got := few.post("/v1/chat/completions", two); got.status != 400 || got.failure()["code"] != "too_many_images" {
		t.Errorf("two of one: %d %s", got.status, got.body)
	}
	if got := posts(ollama); got != n || len(asked) != 0 {
		t.Errorf("the server was asked %d times, the images' %d times, without need", got-n, len(asked))
	}
}

// A client that leaves while its image is fetched takes the fetch with it, and one
// that waits hears that it is not forgotten.
func TestFetchesEndWithTheirClients(t *testing.T) {
	t.Parallel()
	reached, gone, release := make(chan struct{}, 4), make(chan struct{}, 4), make(chan struct{})
	images := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		select {
		case <-r.Context().Done():
			gone <- struct{}{}
		case <-release:
			w.Write([]byte(tinyPNG))
		}
	}))
	defer images.Close()
	ollama, url := pageServer(t, sim.Options{Profile: sim.Ollama, Models: []string{"m"}, Images: true, Reply: "an image"})
	p := start(t, configOf(`inputs: {fetchImages: true, fetchPrivate: true, fetchSeconds: 60}, heartbeat: {firstMs: 50, everyMs: 50}, providers: {near: {kind: "ollama"}}`,
		sized("near", url+"/v1", 32768, `, input: ["text", "image"]`)))
	body := seeing(images.URL)["/v1/chat/completions"]
	for _, stream := range []string{"", `"stream":true,`} {
		b := strings.Replace(body, "{", "{"+stream, 1)
		c := p.dial()
		fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
		<-reached
		c.Close()
		<-gone
		p.waitInFlight(0)
	}
	if n := posts(ollama); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
	req, err := http.NewRequest("POST", p.base+"/v1/chat/completions", strings.NewReader(strings.Replace(body, "{", `{"stream":true,`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req) // its head comes with the first heartbeat
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if len(reached) == 0 {
		t.Error("the head came before the image was asked for")
	}
	close(release)
	held := readAll(t, resp)
	if resp.StatusCode != 200 || held.text() != "an image" || strings.Count(held.body, "data: [DONE]") != 1 {
		t.Errorf("held: %d %s", resp.StatusCode, held.body)
	}
	if r := p.receipt(held); r["held"] != true || r["outcome"] != "ok" {
		t.Errorf("receipt %v", r)
	}
}

func readAll(t *testing.T, resp *http.Response) reply {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(body), nil}
}

// What a server says of its models stands above their names.
func TestServersSayWhatTheirModelsRead(t *testing.T) {
	t.Parallel()
	ollama, url := pageServer(t, sim.Options{Profile: sim.Ollama, Models: []string{"qwen3-vl"}, Reply: "near"}) // which has no vision
	vllm, vllmURL := pageServer(t, sim.Options{Profile: sim.VLLM, Models: []string{"llama-guess"}, Images: true, Reply: "vllm"})
	p := start(t, fmt.Sprintf(`{models: {mode: "replace"}, proxy: {discovery: {addresses: [%q, %q], everySeconds: 60}}}`, url, vllmURL))
	ask := func(model string) reply {
		return p.post("/v1/chat/completions", strings.Replace(seeing(dataImage)["/v1/chat/completions"], "default", model, 1))
	}
	p.until("both are found", func() bool { return strings.Count(p.get("/v1/models").body, `"kind":"model"`) >= 2 })
	if got := ask("ollama/qwen3-vl"); got.status != 400 || got.failure()["code"] != "unsupported_image_input" {
		t.Errorf("Ollama says that it reads none: %d %s", got.status, got.body)
	}
	if got := ask("vllm/llama-guess"); got.text() != "vllm" {
		t.Errorf("vLLM says nothing: %d %s", got.status, got.body)
	}
	if posts(ollama) != 0 || posts(vllm) != 1 {
		t.Errorf("asked %d and %d times, want 0 and 1", posts(ollama), posts(vllm))
	}
}
