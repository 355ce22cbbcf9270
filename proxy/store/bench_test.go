package store

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// both runs a benchmark on a file and in memory.
func both(b *testing.B, f func(b *testing.B, s *Store)) {
	for _, mode := range []string{"file", "memory"} {
		b.Run(mode, func(b *testing.B) {
			opt := Options{}
			if mode == "file" {
				opt.Path = filepath.Join(b.TempDir(), "responses.db")
			}
			f(b, mustOpen(b, opt))
		})
	}
}

// typical is a turn of 4 KB: a resource of half of it, and its items.
func typical(id, previous string) *Response {
	text := func(n int) []byte { return fmt.Appendf(nil, `{"id":%q,"text":"%s"}`, id, bytes.Repeat([]byte("x"), n)) }
	return &Response{ID: id, Owner: "0123456789abcdef0123456789abcdef", Previous: previous, Model: "ollama/qwen3", Status: "completed",
		Resource: text(2000), Input: []Item{{"in_" + id, text(700)}}, Output: []Item{{"rs_" + id, text(600)}, {"msg_" + id, text(600)}}}
}

func BenchmarkPut(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			both(b, func(b *testing.B, s *Store) {
				ctx, template := context.Background(), typical("r", "")
				var n atomic.Int64
				var wg sync.WaitGroup
				b.ReportAllocs()
				b.ResetTimer()
				for range callers {
					wg.Go(func() {
						for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
							r := *template
							r.ID = fmt.Sprint("resp_", i)
							if err := s.Put(ctx, &r); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

// What Put costs its caller's goroutine, apart from waiting.
func BenchmarkPutCopies(b *testing.B) {
	r := typical("r", "")
	b.ReportAllocs()
	for b.Loop() {
		buf := make([]byte, 0, 4096)
		_, buf = copied(r.Resource, buf)
		_, buf = copiedItems(r.Input, buf)
		_, _ = copiedItems(r.Output, buf)
	}
}

func BenchmarkGet(b *testing.B) {
	both(b, func(b *testing.B, s *Store) {
		const n = 1000
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprint("resp_", i)
			put(b, s, typical(names[i], ""))
		}
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if _, err := s.Get("0123456789abcdef0123456789abcdef", names[i%n]); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

func BenchmarkHistory(b *testing.B) {
	both(b, func(b *testing.B, s *Store) {
		before := ""
		for i := range 50 {
			id := fmt.Sprint("resp_", i)
			put(b, s, typical(id, before))
			before = id
		}
		b.ReportAllocs()
		b.ResetTimer()
		for b.Loop() {
			if _, err := s.History("0123456789abcdef0123456789abcdef", before); err != nil {
				b.Fatal(err)
			}
		}
	})
}
