package main

import (
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"
	_ "modernc.org/sqlite"
)

// soakRounds is how often TestKillMinusNineLosesNoMore kills the proxy; a few times
// when not set. "make soak" does it for long.
const soakRounds = "NEARSIDE_SOAK_ROUNDS"

// What the soak's backend says of every answer.
const soakInput, soakOutput = 11, 7

// soakBackend answers chat requests at once, streamed or whole, with the last
// message's text.
func soakBackend(t *testing.T) *httptest.Server {
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ask struct {
			Stream   bool
			Messages []struct{ Content any }
		}
		if strings.HasSuffix(r.URL.Path, "/models") {
			fmt.Fprint(w, `{"object":"list","data":[{"id":"m","object":"model"}]}`)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || len(ask.Messages) == 0 {
			w.WriteHeader(400)
			return
		}
		text := fmt.Sprint(ask.Messages[len(ask.Messages)-1].Content)
		usage := fmt.Sprintf(`"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, soakInput, soakOutput, soakInput+soakOutput)
		if !ask.Stream {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"id":"x","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":%q}}],%s}`, text, usage)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		flush := w.(http.Flusher)
		for _, part := range []string{`{"index":0,"delta":{"role":"assistant","content":` + strconv.Quote(text) + `}}`, `{"index":0,"delta":{"content":"."}}`, `{"index":0,"delta":{},"finish_reason":"stop"}`} {
			fmt.Fprintf(w, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[%s]}\n\n", part)
			flush.Flush()
		}
		fmt.Fprintf(w, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[],%s}\n\ndata: [DONE]\n\n", usage)
	}))
	t.Cleanup(b.Close)
	return b
}

// acknowledged is an answer that its client got to the end.
type acknowledged struct {
	id     string // of the request
	stored string // id of the response; empty for one that is not kept
	text   string // that it must hold
	at     time.Time
}

// soakLoad asks again and again from several clients until the proxy dies.
type soakLoad struct {
	mu      sync.Mutex
	done    []acknowledged
	dropped int // requests whose answers did not come to their end
}

func (l *soakLoad) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.done)
}

const soakClients = 6

// run returns when every client has lost its connection. ack is called after each
// answer with the number of those so far.
func (l *soakLoad) run(base string, round int, ack func(n int)) {
	var wg sync.WaitGroup
	for c := range soakClients {
		wg.Go(func() {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: patience}
			for i := 0; ; i++ {
				text := fmt.Sprintf("plum-%d-%d-%d", round, c, i)
				a, ok := soakAsk(client, base, text, c%2 == 0, i%2 == 0)
				l.mu.Lock()
				if ok {
					l.done = append(l.done, a)
				} else {
					l.dropped++
				}
				n := len(l.done)
				l.mu.Unlock()
				if !ok {
					return
				}
				ack(n)
			}
		})
	}
	wg.Wait()
}

// soakAsk asks once; false when the answer did not come to its end.
func soakAsk(client *http.Client, base, text string, stored, stream bool) (a acknowledged, ok bool) {
	path, body := "/v1/chat/completions", fmt.Sprintf(`{"model":"default","stream":%v,"messages":[{"role":"user","content":%q}]}`, stream, text)
	if stored {
		path, body = "/v1/responses", fmt.Sprintf(`{"model":"default","store":true,"stream":%v,"input":%q}`, stream, text)
	}
	resp, err := client.Post(base+path, "application/json", strings.NewReader(body))
	if err != nil {
		return a, false
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !strings.Contains(string(raw), text) {
		return a, false
	}
	a = acknowledged{id: resp.Header.Get("X-Request-Id"), text: text, at: time.Now()}
	if stored {
		_, rest, _ := strings.Cut(string(raw), `"id":"resp_`)
		id, _, found := strings.Cut(rest, `"`)
		if a.stored = "resp_" + id; !found {
			return a, false
		}
	}
	return a, true
}

// TestKillMinusNineLosesNoMore than what is said (row 67 of the matrix): the proxy
// is killed under load again and again, on the same data. Every response that a
// client was told is stored is there afterwards, whole. Of the ledger's rows there
// are no halves and no doubles, all that were written when the proxy said so, and
// none is missing that is older than the batch that was under way.
func TestKillMinusNineLosesNoMore(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SIGKILL")
	}
	rounds := 4
	if n, err := strconv.Atoi(os.Getenv(soakRounds)); err == nil {
		rounds = n
	}
	const batch = 100 * time.Millisecond
	// What a batch may take beyond that on a machine that is busy: to be woken, and
	// to commit.
	const slack = 2 * time.Second
	backend, dir := soakBackend(t), t.TempDir()
	config := configOf(fmt.Sprintf(`ledger: {batchMs: %d}, dataDir: %q`, batch.Milliseconds(), dir), provider("near", backend.URL+"/v1", "openai-completions"))
	var load soakLoad
	written := map[string]bool{} // rows that the proxy has said are written, by the request's id
	lost := map[string]bool{}    // and those that went with the batch that was under way at a kill
	for round := range rounds {
		r := start(t, config)
		before := load.count()
		// When the clients have so many answers the proxy is asked for its usage,
		// which it answers with all that ended before; then it is killed.
		asks := before + 20 + rand.IntN(100)
		kills := asks + 10 + rand.IntN(200)
		died := make(chan time.Time, 1)
		kill := func() {
			died <- time.Now()
			_ = r.cmd.Process.Kill()
		}
		var killing, asking sync.Once
		load.run(r.base, round, func(n int) {
			if n >= asks {
				asking.Do(func() {
					load.mu.Lock()
					ended := append([]acknowledged{}, load.done[before:]...)
					load.mu.Unlock()
					if out, code := runBinary("usage", "--url", r.base, "--json"); code == 0 {
						for _, a := range ended {
							written[a.id] = true
						}
					} else {
						t.Logf("round %d: usage exits with %d, as it may when the proxy is killed before: %s", round, code, out)
					}
				})
			}
			if n >= kills {
				killing.Do(func() {
					// At some moment of a batch, of a commit, of an answer.
					time.AfterFunc(time.Duration(rand.IntN(20_000))*time.Microsecond, kill)
				})
			}
		})
		killing.Do(func() {
			t.Errorf("round %d: all clients lost their answers before the proxy was killed\n%s", round, r.output())
			kill()
		})
		<-r.exited
		soundFiles(t, dir)
		reconcile(t, dir, &load, written, lost, (<-died).Add(-batch-slack))
		if t.Failed() {
			t.Fatalf("after kill %d", round+1)
		}
	}
	r := start(t, config)
	kept := 0
	for _, a := range load.done {
		if a.stored == "" {
			continue
		}
		kept++
		if got := r.get("/v1/responses/" + a.stored); got.status != 200 || !strings.Contains(got.body, a.text) {
			t.Fatalf("%s was acknowledged: %d %s", a.stored, got.status, got.body)
		}
	}
	t.Logf("%d kills: %d answers acknowledged, %d of them stored, %d cut off, %d rows known to be written, %d lost with the batch of a kill", rounds, len(load.done), kept, load.dropped, len(written), len(lost))
	if kept == 0 || len(written) == 0 {
		t.Error("nothing was put to the test")
	}
}

// soundFiles has SQLite look at every page of both files, and brings their logs
// home as the next start does.
func soundFiles(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"ledger.db", "responses.db"} {
		db, err := sql.Open("sqlite", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		var verdict string
		if err := db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
			t.Errorf("%s: %q, %v", name, verdict, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// reconcile holds the ledger's rows against what the clients got.
func reconcile(t *testing.T, dir string, load *soakLoad, written, lost map[string]bool, window time.Time) {
	t.Helper()
	path := filepath.Join(dir, "ledger.db")
	out, code := runBinary("usage", "--file", path, "--rows", "--json", "--since", "all")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	type row struct {
		ID            string `json:"request_id"`
		Model         string
		Route         string
		Outcome       string
		Status        int
		Input, Output int
		Took          float64 `json:"took_ms"`
	}
	rows := map[string]row{}
	for line := range strings.Lines(out) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if _, twice := rows[r.ID]; twice {
			t.Errorf("%s has two rows", r.ID)
		}
		rows[r.ID] = r
		if r.Outcome == "ok" && (r.Model != "near/m" || r.Route != "near" || r.Status != 200 || r.Input != soakInput || r.Output != soakOutput || r.Took <= 0) {
			t.Errorf("half a row: %+v", r)
		}
	}
	seen := 0
	for _, a := range load.done {
		r, there := rows[a.id]
		switch {
		case there && r.Outcome != "ok":
			t.Errorf("%s was answered whole, and its row says %+v", a.id, r)
		case there:
			seen++
		case written[a.id]:
			t.Errorf("the row of %s was written, and is not there", a.id)
		case a.at.After(window) || lost[a.id]:
			lost[a.id] = true
		default:
			t.Errorf("the row of %s is not there, though it was answered at %v, %v before the batch that may be lost", a.id, a.at, window.Sub(a.at))
		}
	}
	if extra := len(rows) - seen; extra > load.dropped {
		t.Errorf("%d rows are of no answer that a client got, and only %d were cut off", extra, load.dropped)
	}
	var sum struct{ Total struct{ Exchanges int } }
	out, code = runBinary("usage", "--file", path, "--json", "--since", "all", "--by", "none")
	if err := json.Unmarshal([]byte(out), &sum); err != nil || code != 0 || sum.Total.Exchanges != len(rows) {
		t.Errorf("the sums are of %d exchanges, and there are %d rows: exit %d, %v", sum.Total.Exchanges, len(rows), code, err)
	}
}
