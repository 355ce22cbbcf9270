package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func isErr(got, want error) bool { return errors.Is(got, want) }

func TestPutIsReadByteForByte(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s := open(Options{})
		want := turn("alice", "resp_1", "")
		want.Conversation, want.Background = "conv_1", true
		want.Resource = []byte("{ \"id\" : \"resp_1\",\"text\":\"\x00ü \\u0000 \xff\" }")
		put(t, s, want)
		got, err := s.Get("alice", "resp_1")
		if err != nil {
			t.Fatal(err)
		}
		w := *want
		w.Input, w.Output = nil, nil
		if diff := cmp.Diff(&w, got); diff != "" {
			t.Fatalf("Get (-want +got):\n%s", diff)
		}
		it, err := s.Item("alice", "out_resp_1")
		if diff := cmp.Diff(item("out_resp_1"), it); err != nil || diff != "" {
			t.Fatalf("Item: %v (-want +got):\n%s", err, diff)
		}
		wantSound(t, s)
	})
}

// The caller's buffers belong to the server's connection and are used again.
func TestPutKeepsNothingOfItsArgument(t *testing.T) {
	s := mustOpen(t, Options{})
	done, release := blocked(s)
	r, out := turn("", "resp_1", ""), make(chan error)
	go func() { out <- s.Put(context.Background(), r) }()
	waitQueued(t, s, 1)
	clear(r.Resource)
	clear(r.Input[0].JSON)
	release()
	wantErr(t, "the write before", <-done, nil)
	wantErr(t, "Put", <-out, nil)
	got, err := s.Get("", "resp_1")
	if err != nil || got.Resource[0] != '{' {
		t.Fatalf("Get: %v, %q", err, got.Resource)
	}
	wantHistory(t, s, "", "resp_1", `[{"id":"in_resp_1"},{"id":"out_resp_1"}]`)
}

// A key must never tell whether another's id exists.
func TestOwnersDoNotMeet(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s, ctx := open(Options{}), context.Background()
		put(t, s, turn("alice", "resp_1", ""))
		if err := s.CreateConversation(ctx, &Conversation{ID: "conv_1", Owner: "alice", Metadata: []byte("{}")}, items("msg_1")); err != nil {
			t.Fatal(err)
		}
		for _, owner := range []string{"bob", "", "alice ", "ALICE", "alice\x00"} {
			f := func(what string, err error) {
				t.Helper()
				if err == nil || !errors.Is(err, ErrNotFound) {
					t.Fatalf("%s as %q: got %v, want %v", what, owner, err, ErrNotFound)
				}
			}
			_, err := s.Get(owner, "resp_1")
			f("Get", err)
			if err != ErrNotFound {
				t.Fatalf("Get as %q: %q tells more than not found", owner, err)
			}
			_, err = s.History(owner, "resp_1")
			f("History", err)
			_, err = s.Item(owner, "out_resp_1")
			f("Item", err)
			_, err = s.InputItems(owner, "resp_1", Page{})
			f("InputItems", err)
			f("Delete", s.Delete(ctx, owner, "resp_1"))
			r := turn(owner, "resp_1", "")
			r.Status = "cancelled"
			f("Update", s.Update(ctx, r))
			_, err = s.Conversation(owner, "conv_1")
			f("Conversation", err)
			_, err = s.ConversationItems(owner, "conv_1", Page{})
			f("ConversationItems", err)
			_, err = s.ConversationItem(owner, "conv_1", "msg_1")
			f("ConversationItem", err)
			_, err = s.ConversationHistory(owner, "conv_1")
			f("ConversationHistory", err)
			f("AddItems", s.AddItems(ctx, owner, "conv_1", items("x")))
			f("DeleteItem", s.DeleteItem(ctx, owner, "conv_1", "msg_1"))
			f("UpdateConversation", s.UpdateConversation(ctx, owner, "conv_1", []byte("{}")))
			f("DeleteConversation", s.DeleteConversation(ctx, owner, "conv_1"))
			r = turn(owner, "resp_2", "")
			r.Conversation, r.Append = "conv_1", true
			f("Put", s.Put(ctx, r))

			// The same id of another owner is another response; a chain does not
			// lead into somebody else's.
			put(t, s, turn(owner, "resp_1", ""), turn(owner, "resp_3", "resp_unknown"))
			_, err = s.History(owner, "resp_3")
			f("History across owners", err)
			if err := s.Delete(ctx, owner, "resp_1"); err != nil {
				t.Fatal(err)
			}
		}
		wantHistory(t, s, "alice", "resp_1", `[{"id":"in_resp_1"},{"id":"out_resp_1"}]`)
		put(t, s, turn("bob", "resp_9", "resp_1"))
		_, err := s.History("bob", "resp_9")
		wantErr(t, "History into another's chain", err, ErrNotFound)
		wantSound(t, s)
	})
}

func TestHistoryFollowsTheChain(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s := open(Options{ChainMax: 4, HistoryBytesMax: 1000})
		a, b := turn("", "a", ""), turn("", "b", "a")
		b.Input = append(b.Input, Item{JSON: []byte(`{"no":"id"}`)})
		b.Output = nil
		put(t, s, a, b, turn("", "c", "b"), turn("", "c2", "b"), turn("", "d", "c"), turn("", "e", "d"))
		wantHistory(t, s, "", "a", `[{"id":"in_a"},{"id":"out_a"}]`)
		wantHistory(t, s, "", "b", `[{"id":"in_a"},{"id":"out_a"},{"id":"in_b"},{"no":"id"}]`)
		wantHistory(t, s, "", "d", `[{"id":"in_a"},{"id":"out_a"},{"id":"in_b"},{"no":"id"},{"id":"in_c"},{"id":"out_c"},{"id":"in_d"},{"id":"out_d"}]`)
		wantHistory(t, s, "", "c2", `[{"id":"in_a"},{"id":"out_a"},{"id":"in_b"},{"no":"id"},{"id":"in_c2"},{"id":"out_c2"}]`)
		_, err := s.History("", "e")
		wantErr(t, "five turns where four are allowed", err, ErrTooLarge)

		big := turn("", "big", "a")
		big.Input = []Item{{JSON: []byte(`"` + strings.Repeat("x", 990) + `"`)}}
		put(t, s, big)
		_, err = s.History("", "big")
		wantErr(t, "more bytes than allowed", err, ErrTooLarge)

		empty := turn("", "empty", "")
		empty.Input, empty.Output = nil, nil
		put(t, s, empty)
		wantHistory(t, s, "", "empty", `[]`)
		_, err = s.History("", "nothing")
		wantErr(t, "an unknown id", err, ErrNotFound)
	})
}

// A client that deletes a turn must not change what later turns remember, nor
// see the turn again.
func TestDeletedTurnLivesInLaterOnes(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s, ctx := open(Options{}), context.Background()
		put(t, s, turn("", "a", ""), turn("", "b", "a"), turn("", "c", "b"), turn("", "b2", "a"))
		const whole = `[{"id":"in_a"},{"id":"out_a"},{"id":"in_b"},{"id":"out_b"},{"id":"in_c"},{"id":"out_c"}]`
		for _, id := range []string{"a", "b"} {
			wantErr(t, "Delete", s.Delete(ctx, "", id), nil)
			wantErr(t, "Delete again", s.Delete(ctx, "", id), ErrNotFound)
			_, err := s.Get("", id)
			wantErr(t, "Get", err, ErrNotFound)
			_, err = s.History("", id)
			wantErr(t, "History", err, ErrNotFound)
			_, err = s.InputItems("", id, Page{})
			wantErr(t, "InputItems", err, ErrNotFound)
			_, err = s.Item("", "in_"+id)
			wantErr(t, "Item", err, ErrNotFound)
			wantErr(t, "Put of a deleted one", s.Put(ctx, turn("", id, "")), ErrNotFound)
			wantErr(t, "Update of a deleted one", s.Update(ctx, turn("", id, "")), ErrNotFound)
			wantHistory(t, s, "", "c", whole)
			wantSound(t, s)
		}
		// A turn that was under way when its previous one was deleted.
		put(t, s, turn("", "late", "b"))
		wantHistory(t, s, "", "late", strings.ReplaceAll(whole, "_c", "_late"))
		wantErr(t, "Delete", s.Delete(ctx, "", "late"), nil)

		wantErr(t, "Delete", s.Delete(ctx, "", "c"), nil)
		wantHistory(t, s, "", "b2", `[{"id":"in_a"},{"id":"out_a"},{"id":"in_b2"},{"id":"out_b2"}]`)
		wantErr(t, "Delete", s.Delete(ctx, "", "b2"), nil)
		wantSound(t, s)
		inside(t, s, func(w *writer) error {
			var n int
			if err := w.row(`SELECT (SELECT count(*) FROM responses) + (SELECT count(*) FROM items) + (SELECT count(*) FROM trees)`).Scan(&n); err != nil {
				return err
			}
			if n != 0 {
				return fmt.Errorf("%d rows remain of a chain that is gone", n)
			}
			return nil
		})
	})
}

// Background work reports its states; cancelling and completing race.
func TestStatesReplaceEachOther(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s, ctx := open(Options{}), context.Background()
		put(t, s, turn("", "a", ""))
		r := turn("", "job", "a")
		r.Status, r.Output, r.Background = "queued", nil, true
		wantErr(t, "Update before Put", s.Update(ctx, r), ErrNotFound)
		put(t, s, r)
		r.Status, r.Input = "in_progress", nil
		wantErr(t, "in progress", s.Update(ctx, r), nil)
		r.Status, r.Output, r.Resource = "completed", items("o1", "o2"), []byte(`{"done":true}`)
		wantErr(t, "completed", s.Update(ctx, r), nil)
		late := turn("", "job", "a")
		late.Status = "cancelled"
		wantErr(t, "cancelled too late", s.Update(ctx, late), ErrFinished)

		got, err := s.Get("", "job")
		if err != nil || got.Status != "completed" || string(got.Resource) != `{"done":true}` || !got.Background {
			t.Fatalf("Get: %v, %+v", err, got)
		}
		wantHistory(t, s, "", "job", `[{"id":"in_a"},{"id":"out_a"},{"id":"in_job"},{"id":"o1"},{"id":"o2"}]`)
		r.Output = items("o3")
		put(t, s, r)
		wantHistory(t, s, "", "job", `[{"id":"in_a"},{"id":"out_a"},{"id":"in_job"},{"id":"o3"}]`)
		_, err = s.Item("", "o1")
		wantErr(t, "an item that was replaced", err, ErrNotFound)
		if n := s.Stats().Responses; n != 2 {
			t.Fatalf("responses: got %d, want 2", n)
		}
		wantSound(t, s)
	})
}

func TestBoundsRefuse(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s, ctx := open(Options{ResponseBytesMax: 200, ItemsMax: 3, HistoryBytesMax: 100}), context.Background()
		f := func(what string, want error, change func(*Response)) {
			t.Helper()
			r := turn("", "r", "")
			change(r)
			wantErr(t, what, s.Put(ctx, r), want)
		}
		f("within", nil, func(*Response) {})
		f("bytes", ErrTooLarge, func(r *Response) { r.Resource = make([]byte, 201) })
		f("bytes together", ErrTooLarge, func(r *Response) { r.Resource = make([]byte, 190) })
		f("items", ErrTooLarge, func(r *Response) { r.Input = items("1", "2", "3") })
		for _, change := range []func(*Response){
			func(r *Response) { r.ID = "" },
			func(r *Response) { r.Resource = nil },
			func(r *Response) { r.Input = []Item{{ID: "x"}} },
		} {
			r := turn("", "r", "")
			change(r)
			if err := s.Put(ctx, r); err == nil {
				t.Fatalf("Put(%+v) was accepted", r)
			}
		}
		wantErr(t, "metadata", s.CreateConversation(ctx, &Conversation{ID: "c", Metadata: make([]byte, metadataMax+1)}, nil), ErrTooLarge)
		wantErr(t, "conversation", s.CreateConversation(ctx, &Conversation{ID: "c"}, items("1", "2", "3", "4")), ErrTooLarge)
		wantErr(t, "conversation", s.CreateConversation(ctx, &Conversation{ID: "c"}, items("1", "2")), nil)
		wantErr(t, "one more", s.AddItems(ctx, "", "c", items("3")), nil)
		wantErr(t, "too many", s.AddItems(ctx, "", "c", items("4")), ErrTooLarge)
		wantErr(t, "conversation", s.CreateConversation(ctx, &Conversation{ID: "d"}, nil), nil)
		wantErr(t, "too long", s.AddItems(ctx, "", "d", []Item{{JSON: make([]byte, 101)}}), ErrTooLarge)
		r := turn("", "r2", "")
		r.Conversation, r.Append = "c", true
		wantErr(t, "no room in the conversation", s.Put(ctx, r), ErrTooLarge)
		_, err := s.Get("", "r2")
		wantErr(t, "a refused one", err, ErrNotFound)
		wantSound(t, s)
	})
}

// Everything that is done at once must leave what doing it in turn leaves.
func TestManyAtOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s, ctx := open(Options{}), context.Background()
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				owner := fmt.Sprint("owner", g%4)
				for i := range 40 {
					id, before := fmt.Sprintf("r%d_%d", g, i), ""
					if i > 0 {
						before = fmt.Sprintf("r%d_%d", g, i-1)
					}
					if err := s.Put(ctx, turn(owner, id, before)); err != nil {
						t.Errorf("Put: %v", err)
					}
					if _, err := s.Get(owner, id); err != nil {
						t.Errorf("Get after Put: %v", err)
					}
					if _, err := s.Item(owner, "out_"+id); err != nil {
						t.Errorf("Item after Put: %v", err)
					}
					if h, err := s.History(owner, id); err != nil || strings.Count(string(h), "in_") != i+1 {
						t.Errorf("History of turn %d: %v, %d turns", i, err, strings.Count(string(h), "in_"))
					}
					if i > 0 && i%3 == 0 {
						if err := s.Delete(ctx, owner, before); err != nil {
							t.Errorf("Delete: %v", err)
						}
					}
					s.Stats()
				}
			})
		}
		wg.Wait()
		if got, want := s.Stats().Responses, int64(8*(40-13)); got != want {
			t.Errorf("responses: got %d, want %d", got, want)
		}
		wantSound(t, s)
	})
}

// A model of a few lines, and random steps.
func TestStoreAgreesWithAModel(t *testing.T) {
	type entry struct {
		previous string
		dead     bool
	}
	eachMode(t, func(t *testing.T, open opener) {
		s, ctx := open(Options{}), context.Background()
		model := map[string]entry{}
		var history func(id string) string
		history = func(id string) string {
			h := fmt.Sprintf(`{"id":"in_%s"},{"id":"out_%s"}`, id, id)
			if p := model[id].previous; p != "" {
				h = history(p) + "," + h
			}
			return h
		}
		rnd := rand.New(rand.NewPCG(1, 2))
		var ids []string
		for i := range 400 {
			pick := ""
			if len(ids) > 0 {
				pick = ids[rnd.IntN(len(ids))]
			}
			alive := pick != "" && !model[pick].dead
			switch rnd.IntN(5) {
			case 0, 1:
				id, previous := fmt.Sprint("r", i), ""
				if alive && rnd.IntN(4) > 0 {
					previous = pick
				}
				put(t, s, turn("", id, previous))
				model[id] = entry{previous: previous}
				ids = append(ids, id)
			case 2:
				if alive {
					put(t, s, turn("", pick, "ignored"))
				}
			default:
				if pick == "" {
					continue
				}
				err := s.Delete(ctx, "", pick)
				if alive != (err == nil) {
					t.Fatalf("Delete(%s), alive %v: %v", pick, alive, err)
				}
				model[pick] = entry{model[pick].previous, true}
			}
		}
		for id, e := range model {
			got, err := s.History("", id)
			if e.dead {
				wantErr(t, "History of a deleted one", err, ErrNotFound)
				continue
			}
			if want := "[" + history(id) + "]"; err != nil || string(got) != want {
				t.Fatalf("History(%s): %v\n got %s\nwant %s", id, err, got, want)
			}
		}
		wantSound(t, s)
	})
}

func TestCreatedIsTheClocksWhenZero(t *testing.T) {
	c := newClock()
	s := mustOpen(t, Options{Now: c.now})
	r := turn("", "a", "")
	r.Created = time.Time{}
	put(t, s, r)
	if got, err := s.Get("", "a"); err != nil || !got.Created.Equal(c.now()) {
		t.Fatalf("Get: %v, created %v, want %v", err, got.Created, c.now())
	}
}
