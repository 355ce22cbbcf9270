package store

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/goccy/go-json"
	"github.com/google/go-cmp/cmp"
)

func TestReopenFindsEverything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a folder", "50% #1?.db")
	s, ctx := mustOpen(t, Options{Path: path}), context.Background()
	put(t, s, turn("alice", "a", ""), turn("alice", "b", "a"))
	wantErr(t, "create", s.CreateConversation(ctx, &Conversation{ID: "c", Owner: "alice"}, items("1")), nil)
	wantErr(t, "delete", s.Delete(ctx, "alice", "a"), nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if names := dir(t, path); names != "50% #1?.db 50% #1?.db.lock" {
		t.Fatalf("beside the file: %s", names)
	}
	if runtime.GOOS != "windows" {
		for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
			if info, err := os.Stat(name); err != nil || info.Mode() != want {
				t.Fatalf("mode of %s: got %v, want %v (%v)", name, info.Mode(), want, err)
			}
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, Options{Path: path})
	put(t, s, turn("alice", "c", "b"))
	if runtime.GOOS != "windows" {
		for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
			if info, err := os.Stat(path + suffix); err != nil || info.Mode() != 0o600 {
				t.Fatalf("mode of %s: %v, %v", path+suffix, info.Mode(), err)
			}
		}
	}
	wantHistory(t, s, "alice", "b", `[{"id":"in_a"},{"id":"out_a"},{"id":"in_b"},{"id":"out_b"}]`)
	if st := s.Stats(); st.Responses != 2 || st.Conversations != 1 || st.Bytes == 0 {
		t.Fatalf("stats: %+v", st)
	}
	wantSound(t, s)
}

func dir(t *testing.T, path string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// Two processes would each believe that the other's background work is dead.
func TestFileIsOpenedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "responses.db")
	s := mustOpen(t, Options{Path: path})
	if _, err := Open(Options{Path: path}); err == nil || !strings.Contains(err.Error(), "another process has it open (set proxy.dataDir or proxy.dataDir)") {
		t.Fatalf("second Open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, Options{Path: path})
}

// A poller must not wait for work that died with its process.
func TestUnfinishedFailAtOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "responses.db")
	s := mustOpen(t, Options{Path: path})
	put(t, s, turn("", "done", ""))
	for id, resource := range map[string]string{
		"queued":      `{"id":"queued","created_at":1764000000,"status":"queued","error":null,"output":[],"temperature":1.0,"metadata":{"a":"ü"}}`,
		"in_progress": `{ "id": "in_progress", "status": "in_progress" }`,
		"odd":         `no JSON`,
	} {
		r := turn("", id, "done")
		r.Status, r.Background, r.Output, r.Resource = id, true, nil, []byte(resource)
		if id == "odd" {
			r.Status = "queued"
		}
		put(t, s, r)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s = mustOpen(t, Options{Path: path, Log: zerologTo(&log)})
	if !strings.Contains(log.String(), `"responses":3`) {
		t.Fatalf("log: %s", &log)
	}
	const failed = `"status":"failed","error":{"code":"server_error","message":"The proxy was restarted while it worked on this response.","type":"server_error","param":null}`
	for id, want := range map[string]string{
		"queued":      `{"id":"queued","created_at":1764000000,` + failed + `,"output":[],"temperature":1.0,"metadata":{"a":"ü"}}`,
		"in_progress": `{"id":"in_progress",` + failed + `}`,
		"odd":         `{"id":"odd","object":"response","created_at":1764000000,"model":"ollama/qwen3","output":[],` + failed + `}`,
	} {
		got, err := s.Get("", id)
		if err != nil || got.Status != "failed" || !got.Background {
			t.Fatalf("%s: %v, %+v", id, err, got)
		}
		if diff := cmp.Diff(want, string(got.Resource)); diff != "" || !json.Valid(got.Resource) {
			t.Fatalf("%s (-want +got):\n%s", id, diff)
		}
		r := turn("", id, "")
		wantErr(t, "a late Update", s.Update(context.Background(), r), ErrFinished)
	}
	if got, err := s.Get("", "done"); err != nil || got.Status != "completed" {
		t.Fatalf("done: %v, %+v", err, got)
	}
	wantSound(t, s)
}

// What is not ours or not whole is left alone, and the error says what to do.
func TestForeignAndDamagedFilesAreLeftAlone(t *testing.T) {
	sound := filepath.Join(t.TempDir(), "responses.db")
	s := mustOpen(t, Options{Path: sound})
	for i := range 300 {
		put(t, s, turn("", fmt.Sprint("r", i), ""))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	db, err := sql.Open("sqlite", fileURI(foreign))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE theirs (x)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(foreign)
	if err != nil {
		t.Fatal(err)
	}
	holed := bytes.Clone(whole)
	clear(holed[8192:40960])

	for name, tc := range map[string]struct {
		content []byte
		want    string
	}{
		"text":      {[]byte("my notes"), "is damaged or no SQLite file"},
		"long text": {bytes.Repeat([]byte("my notes\n"), 1000), "is damaged or no SQLite file"},
		"foreign":   {theirs, "is another program's SQLite file"},
		"truncated": {whole[:len(whole)/2], "is damaged"},
		"holes":     {holed, "is damaged"},
		"head only": {whole[:100], "is damaged"},
	} {
		path := filepath.Join(t.TempDir(), "responses.db")
		if err := os.WriteFile(path, tc.content, 0o640); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Options{Path: path})
		if err == nil {
			_ = s.Close()
			t.Fatalf("%s: opened", name)
		}
		for _, want := range []string{tc.want, path, "it was left as it is", "proxy.dataDir or proxy.dataDir"} {
			if !strings.Contains(err.Error(), want) {
				t.Fatalf("%s: got %v, want %q in it", name, err, want)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, tc.content) {
			t.Fatalf("%s: the file has changed (%v)", name, err)
		}
	}

	_, err = Open(Options{Path: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Fatalf("a folder: %v", err)
	}
	_, err = Open(Options{Path: filepath.Join(sound, "below", "a.db")})
	if err == nil || !strings.Contains(err.Error(), "proxy.dataDir") {
		t.Fatalf("below a file: %v", err)
	}
}

// A log that outlived its file would be applied to the new one.
func TestStrayLogIsNotApplied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "responses.db")
	if err := os.WriteFile(path+"-wal", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Path: path}); err == nil || !strings.Contains(err.Error(), "without its file") {
		t.Fatalf("Open: %v", err)
	}
}

// A process that died while making the file leaves nothing that is in the way.
func TestLeftoversOfMakingTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "responses.db")
	for name, content := range map[string]string{path: "", path + ".new": "half", path + ".new-journal": "half"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(t, mustOpen(t, Options{Path: path}), turn("", "a", ""))
}

// fixture makes a file as schema version 1 was released.
func fixture(t *testing.T) string {
	t.Helper()
	script, err := os.ReadFile("testdata/schema-1.sql")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "responses.db")
	db, err := sql.Open("sqlite", fileURI(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(string(script)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantFixture(t *testing.T, s *Store) {
	t.Helper()
	wantHistory(t, s, "alice", "resp_2", `[{"id":"msg_1"},{"id":"msg_2"},{"id":"msg_3"},{"id":"msg_4"}]`)
	r, err := s.Get("alice", "resp_2")
	if err != nil || string(r.Resource) != `{"id":"resp_2"}` || r.Model != "near/m" {
		t.Fatalf("Get: %v, %+v", err, r)
	}
	_, err = s.Get("alice", "resp_1")
	wantErr(t, "a tombstone", err, ErrNotFound)
	got, err := s.ConversationHistory("alice", "conv_1")
	if err != nil || string(got) != `[{"id":"msg_5"}]` {
		t.Fatalf("conversation: %v, %s", err, got)
	}
	wantSound(t, s)
}

// Version 1 is read for ever.
func TestSchemaVersion1(t *testing.T) {
	s := mustOpen(t, Options{Path: fixture(t), MaxAge: -1})
	wantFixture(t, s)
	put(t, s, turn("alice", "resp_3", "resp_2"))
	wantSound(t, s)
}

func TestMigrationIsAllOrNothing(t *testing.T) {
	path := fixture(t)
	version := func() (v int) {
		t.Helper()
		db, err := sql.Open("sqlite", fileURI(path))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.QueryRow("SELECT version FROM schema").Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	good := "ALTER TABLE responses ADD COLUMN note TEXT; UPDATE responses SET note = id"
	later := append(steps(), good, "CREATE TABLE more (x)")
	_, err := Open(Options{Path: path, steps: append(steps(), good, "UPDATE nothing SET x = 1")})
	if err == nil || !strings.Contains(err.Error(), "bring the schema to version 3") || version() != 1 {
		t.Fatalf("a step that fails: %v, version %d", err, version())
	}
	s := mustOpen(t, Options{Path: path, MaxAge: -1, steps: later})
	wantFixture(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if v := version(); v != 3 {
		t.Fatalf("version: got %d, want 3", v)
	}
	_, err = Open(Options{Path: path})
	if err == nil || !strings.Contains(err.Error(), "it has schema version 3, and this program knows 1 to") {
		t.Fatalf("an older program: %v", err)
	}
	wantFixture(t, mustOpen(t, Options{Path: path, MaxAge: -1, steps: later}))
}

// A new file and an old one that was brought up to date must be the same.
func TestFixtureIsTheFirstStep(t *testing.T) {
	tables := func(s *Store) (out string) {
		inside(t, s, func(w *writer) error {
			return w.row(`SELECT group_concat(sql, char(10)) FROM (SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name)`).Scan(&out)
		})
		return out
	}
	first := steps()[:1]
	if diff := cmp.Diff(tables(mustOpen(t, Options{Path: fixture(t), steps: first})), tables(mustOpen(t, Options{steps: first}))); diff != "" {
		t.Fatalf("the first step has changed since it was released (-released +now):\n%s", diff)
	}
}
