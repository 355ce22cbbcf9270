//go:build clients

// The clients that run on Node want their packages (scripts/clients.sh
// installs them), so these tests are behind a build tag and never skipped.

package main

import (
	"bufio"
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"
)

// TestClientsNode runs the OpenAI SDK, the AI SDK and LangChain, all in one
// Node process: their imports take longer than all scenes together.
func TestClientsNode(t *testing.T) {
	n := startNode(t)
	client := func(name, dialect, refused, notFound, broke string, headers bool) official {
		return official{name: name, dialect: dialect, refused: refused, notFound: notFound, broke: broke, headers: headers, call: n.call}
	}
	runClients(t, []official{
		client("openai-chat", "chat", "BadRequestError", "NotFoundError", "APIError", true),
		client("openai-responses", "responses", "BadRequestError", "NotFoundError", "APIError", true),
		client("aisdk-chat", "chat", "AI_APICallError", "AI_APICallError", "AI_StreamProviderError", true),
		client("aisdk-compatible", "chat", "AI_APICallError", "AI_APICallError", "AI_StreamProviderError", true),
		client("aisdk-responses", "responses", "AI_APICallError", "AI_APICallError", "AI_StreamProviderError", true),
		client("langchain-chat", "chat", "BadRequestError", "NotFoundError", "APIError", false),
		client("langchain-responses", "responses", "BadRequestError", "NotFoundError", "APIError", false),
	})
}

// node is a running testdata/clients/serve.mjs.
type node struct {
	in     *json.Encoder
	errors *bytes.Buffer // readable once it exited
	exited chan struct{}

	mu      sync.Mutex
	id      int
	waiting map[int]chan shown
}

func startNode(t *testing.T) *node {
	t.Helper()
	cmd := exec.Command(nodePath(t), "serve.mjs")
	cmd.Dir = filepath.Join("testdata", "clients")
	cmd.Env = cleanEnv()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{in: json.NewEncoder(in), errors: &bytes.Buffer{}, exited: make(chan struct{}), waiting: map[int]chan shown{}}
	cmd.Stderr = n.errors
	if err := cmd.Start(); err != nil {
		t.Fatalf("start node: %v; run scripts/clients.sh --install", err)
	}
	go func() {
		defer close(n.exited)
		sc := bufio.NewScanner(out)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			var got struct {
				ID int `json:"id"`
				shown
			}
			if err := json.Unmarshal(sc.Bytes(), &got); err != nil {
				got.Broken = "node said: " + sc.Text()
			}
			n.mu.Lock()
			c := n.waiting[got.ID]
			delete(n.waiting, got.ID)
			n.mu.Unlock()
			if c != nil {
				c <- got.shown
			}
		}
		cmd.Wait()
	}()
	t.Cleanup(func() {
		in.Close() // it ends with its input
		select {
		case <-n.exited:
		case <-time.After(patience):
			cmd.Process.Kill()
			<-n.exited
			t.Error("node did not stop")
		}
		if s := strings.TrimSpace(n.errors.String()); s != "" {
			t.Logf("node's standard error:\n%s", s)
		}
	})
	return n
}

// call gives an order and waits for what the client showed.
func (n *node) call(t *testing.T, o order) shown {
	t.Helper()
	answer := make(chan shown, 1)
	n.mu.Lock()
	n.id++
	o.ID = n.id
	n.waiting[o.ID] = answer
	err := n.in.Encode(o)
	n.mu.Unlock()
	if err != nil {
		t.Fatalf("order: %v", err)
	}
	select {
	case got := <-answer:
		return got
	case <-n.exited:
		t.Fatalf("node exited:\n%s", n.errors)
	case <-time.After(2 * patience):
		t.Fatalf("%s shows nothing for %s, %s", o.Client, o.Scene, o.Prompt)
	}
	panic("unreachable")
}
