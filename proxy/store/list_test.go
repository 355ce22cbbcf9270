package store

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

func ids(l List) string {
	var s []string
	for _, it := range l.Items {
		s = append(s, it.ID)
	}
	return strings.Join(s, " ")
}

func TestPagesCoverTheList(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s, ctx := open(Options{}), context.Background()
		r := turn("", "r", "")
		r.Input = items("a", "b", "c", "d", "e")
		put(t, s, r)
		if err := s.CreateConversation(ctx, &Conversation{ID: "c"}, r.Input[:3]); err != nil {
			t.Fatal(err)
		}
		if err := s.AddItems(ctx, "", "c", r.Input[3:]); err != nil {
			t.Fatal(err)
		}
		for name, list := range map[string]func(Page) (List, error){
			"input items":  func(p Page) (List, error) { return s.InputItems("", "r", p) },
			"conversation": func(p Page) (List, error) { return s.ConversationItems("", "c", p) },
		} {
			f := func(p Page, want string, more bool) {
				t.Helper()
				l, err := list(p)
				if err != nil || ids(l) != want || l.More != more {
					t.Fatalf("%s, %+v\n got %q, more %v, %v\nwant %q, more %v", name, p, ids(l), l.More, err, want, more)
				}
			}
			f(Page{}, "e d c b a", false)
			f(Page{Ascending: true}, "a b c d e", false)
			f(Page{Limit: 2}, "e d", true)
			f(Page{Limit: 2, After: "d"}, "c b", true)
			f(Page{Limit: 2, After: "b"}, "a", false)
			f(Page{Limit: 2, After: "a"}, "", false)
			f(Page{Limit: 2, Ascending: true}, "a b", true)
			f(Page{Limit: 3, After: "b", Ascending: true}, "c d e", false)
			f(Page{Limit: 5, Ascending: true}, "a b c d e", false)
			_, err := list(Page{After: "in_r"})
			wantErr(t, name, err, ErrAfter)
		}
		_, err := s.InputItems("", "x", Page{After: "a"})
		wantErr(t, "an unknown response", err, ErrNotFound)

		var many []string
		for i := range 150 {
			many = append(many, fmt.Sprint("i", i))
		}
		r = turn("", "many", "")
		r.Input = items(many...)
		put(t, s, r)
		for limit, want := range map[int]int{0: 20, -1: 20, 100: 100, 1000: 100} {
			l, err := s.InputItems("", "many", Page{Limit: limit})
			if err != nil || len(l.Items) != want || !l.More {
				t.Fatalf("limit %d: %v, %d items, want %d", limit, err, len(l.Items), want)
			}
		}
	})
}

// A client that pages must come to an end, whatever ids it had sent.
func TestPagingEndsWithRepeatedIDs(t *testing.T) {
	s := mustOpen(t, Options{})
	r := turn("", "r", "")
	r.Input = items("a", "b", "a", "c", "a")
	put(t, s, r)
	for _, up := range []bool{true, false} {
		p := Page{Limit: 1, Ascending: up}
		for n := 1; ; n++ {
			l, err := s.InputItems("", "r", p)
			if err != nil {
				t.Fatal(err)
			}
			if !l.More {
				break
			}
			if n == len(r.Input) {
				t.Fatalf("ascending %v: no end after %d pages", up, n)
			}
			p.After = l.Items[0].ID
		}
	}
}
