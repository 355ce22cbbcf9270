package store

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func wantConversation(t *testing.T, s *Store, id, want string) {
	t.Helper()
	got, err := s.ConversationHistory("", id)
	if err != nil || string(got) != want {
		t.Fatalf("ConversationHistory(%s): %v\n got %s\nwant %s", id, err, got, want)
	}
}

func TestConversations(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s, ctx := open(Options{}), context.Background()
		c := &Conversation{ID: "c", Metadata: []byte(`{"topic":"x"}`), Created: time.UnixMilli(1764000000123)}
		wantErr(t, "create", s.CreateConversation(ctx, c, nil), nil)
		wantErr(t, "create again", s.CreateConversation(ctx, c, nil), ErrExists)
		wantConversation(t, s, "c", `[]`)
		wantErr(t, "metadata", s.UpdateConversation(ctx, "", "c", []byte(`{}`)), nil)
		got, err := s.Conversation("", "c")
		c.Metadata = []byte(`{}`)
		if diff := cmp.Diff(c, got); err != nil || diff != "" {
			t.Fatalf("Conversation: %v (-want +got):\n%s", err, diff)
		}

		wantErr(t, "add", s.AddItems(ctx, "", "c", items("1", "2", "3")), nil)
		wantErr(t, "delete an item", s.DeleteItem(ctx, "", "c", "2"), nil)
		wantErr(t, "delete it again", s.DeleteItem(ctx, "", "c", "2"), ErrNotFound)
		wantErr(t, "replace one, add one", s.AddItems(ctx, "", "c", []Item{{ID: "1", JSON: []byte(`"one"`)}, item("4")}), nil)
		wantConversation(t, s, "c", `["one",{"id":"3"},{"id":"4"}]`)
		it, err := s.ConversationItem("", "c", "4")
		if err != nil || string(it.JSON) != `{"id":"4"}` {
			t.Fatalf("ConversationItem: %v, %s", err, it.JSON)
		}
		_, err = s.ConversationItem("", "c", "2")
		wantErr(t, "an item that was deleted", err, ErrNotFound)
		it, err = s.Item("", "1")
		if err != nil || string(it.JSON) != `"one"` {
			t.Fatalf("Item: %v, %s", err, it.JSON)
		}
		if n := s.Stats().Conversations; n != 1 {
			t.Fatalf("conversations: got %d, want 1", n)
		}
		wantSound(t, s)

		wantErr(t, "delete", s.DeleteConversation(ctx, "", "c"), nil)
		_, err = s.ConversationHistory("", "c")
		wantErr(t, "after delete", err, ErrNotFound)
		_, err = s.Item("", "1")
		wantErr(t, "an item after delete", err, ErrNotFound)
		wantSound(t, s)
	})
}

// A turn and its conversation must not differ, whatever happens in between.
func TestPutAppendsToTheConversationOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s, ctx := open(Options{}), context.Background()
		if err := s.CreateConversation(ctx, &Conversation{ID: "c"}, items("sys")); err != nil {
			t.Fatal(err)
		}
		r := turn("", "r", "")
		r.Conversation, r.Status, r.Output = "c", "queued", nil
		put(t, s, r)
		wantConversation(t, s, "c", `[{"id":"sys"}]`)
		r.Status, r.Input, r.Output, r.Append = "completed", nil, items("out_r"), true
		wantErr(t, "Update", s.Update(ctx, r), nil)
		const want = `[{"id":"sys"},{"id":"in_r"},{"id":"out_r"}]`
		wantConversation(t, s, "c", want)
		put(t, s, r)
		wantConversation(t, s, "c", want)
		wantErr(t, "Delete", s.Delete(ctx, "", "r"), nil)
		wantConversation(t, s, "c", want)

		r = turn("", "r2", "")
		r.Conversation, r.Append = "gone", true
		wantErr(t, "Put", s.Put(ctx, r), ErrNotFound)
		_, err := s.Get("", "r2")
		wantErr(t, "Get", err, ErrNotFound)
		wantSound(t, s)
	})
}
