package capture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func keeper(t *testing.T, opt Options) *Keeper {
	t.Helper()
	opt.Log = zerolog.Nop()
	if opt.Now == nil {
		opt.Now = func() time.Time { return noon }
	}
	k := Open(opt)
	t.Cleanup(k.Close)
	return k
}

func record(i int, body string) *Record {
	return &Record{ID: fmt.Sprintf("req_%024d", i), At: noon.Add(time.Duration(i) * time.Second), Key: fmt.Sprint("k", i%2), Path: "/chat/completions", Ref: "p/m", Status: 200,
		Headers: map[string]string{"User-Agent": "test"}, RequestBytes: len(body), Request: []byte(body), Answer: []byte("answer")}
}

func flushed(t *testing.T, k *Keeper) {
	t.Helper()
	if err := k.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func ids(t *testing.T, dir string) (all []string) {
	t.Helper()
	if err := List(dir, func(r *Record) bool { all = append(all, strings.TrimLeft(r.ID, "req_0")); return true }); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCapturesAreTheOwnersAlone, come back as they were, and go when told.
func TestCapturesAreTheOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "captures")
	k := keeper(t, Options{Dir: dir})
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder is made though nothing is kept: %v", err)
	}
	for i := 1; i <= 3; i++ {
		k.Keep(record(i, fmt.Sprintf("{\"n\":%d}\nline two\n", i)))
	}
	flushed(t, k)
	if got := fmt.Sprint(ids(t, dir)); got != "[3 2 1]" {
		t.Errorf("%s, want the newest first", got)
	}
	r, err := Read(dir, record(2, "").ID)
	if err != nil || string(r.Request) != "{\"n\":2}\nline two\n" || string(r.Answer) != "answer" || r.Key != "k0" || !r.At.Equal(noon.Add(2*time.Second)) {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := Read(dir, "../2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an id that is a path: %v", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", f.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}
	if n, err := Clear(dir, func(r *Record) bool { return r.Key == "k1" }); n != 2 || err != nil || fmt.Sprint(ids(t, dir)) != "[2]" {
		t.Errorf("%d cleared, %v, %v are left", n, err, ids(t, dir))
	}
}

// TestAgeSizeAndQueueAreBounded: the oldest go first, and what cannot wait is lost
// and counted before anybody waits for it.
func TestAgeSizeAndQueueAreBounded(t *testing.T) {
	dir := t.TempDir()
	body := strings.Repeat("words and words ", 64)
	k := keeper(t, Options{Dir: dir, MaxBytes: 20 << 10})
	for i := range 100 {
		k.Keep(record(i, body))
	}
	flushed(t, k)
	left := ids(t, dir)
	if len(left) < 10 || len(left) > 20 || left[0] != "99" {
		t.Errorf("%d are left in 20 KiB of some 1.3 KiB each, the newest is %s", len(left), left[0])
	}
	k.Close()
	if err := os.WriteFile(filepath.Join(dir, tempPrefix+"half"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	k = keeper(t, Options{Dir: dir, MaxAge: 5 * time.Second, Now: func() time.Time { return time.Now().Add(100 * 365 * 24 * time.Hour) }})
	flushed(t, k)
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("%d files are left of an age long ago, %v", len(files), err)
	}

	k = keeper(t, Options{Dir: dir, Queue: len(body)})
	lost := 0
	k.OnLoss(func() { lost++ })
	k.Keep(record(1, body+body))
	if lost != 1 || k.Stats().Lost != 1 {
		t.Errorf("%d lost, %+v: more than may wait was taken", lost, k.Stats())
	}
	k.Keep(record(2, body[:100]))
	flushed(t, k)
	if st := k.Stats(); st.Written != 1 || k.waiting.Load() != 0 {
		t.Errorf("%+v, %d bytes wait", st, k.waiting.Load())
	}
}

// TestWhatCannotBeWrittenIsCounted.
func TestWhatCannotBeWrittenIsCounted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	k := keeper(t, Options{Dir: filepath.Join(file, "captures")})
	k.Keep(record(1, "body"))
	flushed(t, k)
	if st := k.Stats(); st.Lost != 1 || st.Written != 0 {
		t.Errorf("%+v", st)
	}
}

// TestCredentialsAreMasked, whoever wrote them where; and what is none stays.
func TestCredentialsAreMasked(t *testing.T) {
	own, err := NewRedaction([]string{`\bcustomer-\d+`})
	if err != nil {
		t.Fatal(err)
	}
	f := func(in, want string) {
		t.Helper()
		r := &Record{Request: []byte(in), Redact: own, Secrets: []string{"the-presented-key"}, Headers: map[string]string{"X-Note": in}}
		r.mask()
		if got := string(r.Request); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
		if r.Headers["X-Note"] != want {
			t.Errorf("in a header: %s", r.Headers["X-Note"])
		}
		if (r.Masked > 0) != (in != want) {
			t.Errorf("%s: %d places are said to be masked", in, r.Masked)
		}
	}
	key := "sk-proj-" + strings.Repeat("aB3_", 10)
	f(`{"content":"my key is `+key+`, ok?"}`, `{"content":"my key is [redacted], ok?"}`)
	f(`{"api_key":"abc","OPENAI_API_KEY": "x y","model":"gpt"}`, `{"api_key":"[redacted]","OPENAI_API_KEY": "[redacted]","model":"gpt"}`)
	f(`{"arguments":"{\"password\":\"hunter2\",\"user\":\"me\"}"}`, `{"arguments":"{\"password\":\"[redacted]\",\"user\":\"me\"}"}`)
	f(`curl -H 'Authorization: Bearer abcdef123456'`, `curl -H 'Authorization: Bearer [redacted]'`)
	f(`AKIAIOSFODNN7EXAMPLE and the-presented-key`, `[redacted] and [redacted]`)
	f(`-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- after`, `[redacted] after`)
	f(`https://x.test/a?key=abc123&b=1 postgres://me:pw@host/db`, `https://x.test/a?key=[redacted]&b=1 postgres://me:[redacted]@host/db`)
	f(`eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl`, `[redacted]`)
	f(`{"url":"data:image/png;base64,`+strings.Repeat("QUJD", 20)+`"}`, `{"url":"data:image/png;base64,[80 bytes]"}`)
	f(`{"data":"`+strings.Repeat("QUJD", 100)+`=="}`, `{"data":"[402 bytes]"}`)
	f(`{"data":"\"`+strings.Repeat("QUJD", 100)+`\""}`, `{"data":"\"[400 bytes]\""}`)
	f(`of customer-4711`, `of [redacted]`)
	plain := `{"max_tokens":12,"logprobs":[{"token":"Hello"}],"content":"the secret is patience; sk-8 is a road; task-management-is-hard","tool_choice":"auto"}`
	f(plain, plain)

	r := &Record{Headers: map[string]string{"Authorization": "Bearer x", "X-Api-Key": "y", "Cookie": "z", "X-Stainless-Lang": "js"}}
	r.mask()
	if r.Headers["Authorization"] != mark || r.Headers["X-Api-Key"] != mark || r.Headers["Cookie"] != mark || r.Headers["X-Stainless-Lang"] != "js" {
		t.Errorf("%v", r.Headers)
	}
	for _, bad := range []string{`(`, `.*`} {
		if _, err := NewRedaction([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
